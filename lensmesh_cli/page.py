"""A self-contained HTML page of found images: no script, no other file, thumbnails inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from lensmesh_cli.cards import Cards, ImageOf, ShownQuery, asked_line, escape
from lensmesh_cli.thumbnails import ImageSource, thumbnail

if TYPE_CHECKING:
    from lensmesh_client import Hit, HitGroup

WAITING = "queue"
"""The part that is no work. Its bar is pale, and does not set the scale of the others."""


@dataclass(frozen=True, slots=True)
class Section:
    """A search: the query, and what was found."""

    title: str
    hits: Sequence[Hit]
    note: str = ""
    image: ImageSource | None = None
    """The query, where it was an image."""
    verdict: Callable[[Hit], bool | None] | None = None
    """A function that tells whether a hit is right, where the truth is known."""
    queries: Sequence[ShownQuery] = ()
    """The queries, where they are several."""
    groups: Sequence[HitGroup] = ()
    """The hits by their group, where they are grouped."""
    group_by: Sequence[str] = ()
    """Fields of the groups, where their names tell what the values are."""


@dataclass(slots=True)
class ResultPage:
    """The page: figures on top, then where the time went, then the searches."""

    title: str
    lead: str
    figures: list[tuple[str, str]] = field(default_factory=list)
    """Pairs of (value, label)."""
    shares: list[tuple[str, float]] = field(default_factory=list)
    """Pairs of (part, milliseconds)."""
    shares_note: str = ""
    footer: str = ""
    """The footer, as HTML."""
    metadata: bool = True
    """True where cards show metadata."""
    _sections: list[str] = field(default_factory=list)

    def add(self, section: Section, image_of: ImageOf) -> None:
        """Add a search. `image_of` finds a hit's image."""
        cards = Cards(
            image_of,
            section.verdict,
            section.queries,
            section.hits,
            metadata=self.metadata,
            group_by=section.group_by,
        )
        asked = "" if section.image is None else f'<img alt="" src="{thumbnail(section.image)}">'
        note = f"<p>{escape(section.note)}</p>" if section.note else ""
        self._sections.append(
            f'<section class="panel"><div class="ask">{asked}<div><h2>{escape(section.title)}</h2>'
            f"{asked_line(section.queries)}{note}</div></div>"
            + (cards.by_group(section.groups) if section.groups else cards.all_of(section.hits))
            + "</section>"
        )

    def add_part(self, title: str, note: str, html: str) -> None:
        """Add a part whose content is HTML already."""
        self._sections.append(
            f'<section class="panel"><div class="ask"><div><h2>{escape(title)}</h2><p>{escape(note)}</p></div></div>'
            f"{html}</section>"
        )

    def html(self) -> str:
        """Return the whole page."""
        style = files("lensmesh_cli").joinpath("page.css").read_text(encoding="utf-8")
        figures = "".join(
            f"<li><b>{escape(value)}</b><span>{escape(label)}</span></li>" for value, label in self.figures
        )
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.title)}</title><style>{style}</style></head><body><main>"
            f'<h1>{escape(self.title)}</h1><p class="lead">{escape(self.lead)}</p>'
            + (f'<ul class="figures">{figures}</ul>' if figures else "")
            + self._bars()
            + "".join(self._sections)
            + (f"<footer>{self.footer}</footer>" if self.footer else "")
            + "</main></body></html>\n"
        )

    def _bars(self) -> str:
        if not self.shares:
            return ""
        longest = max((value for label, value in self.shares if label != WAITING), default=0.0) or 1.0
        rows = "".join(
            f"<span>{escape(label)}</span>"
            f'<div{" class=waiting" if label == WAITING else ""} style="width:{min(100, 100 * value / longest):.1f}%">'
            f"</div><em>{value:.1f} ms</em>"
            for label, value in self.shares
        )
        return (
            '<section class="panel"><div class="ask"><div><h2>Where the time went</h2>'
            f'<p>{escape(self.shares_note)}</p></div></div><div class="bars">{rows}</div></section>'
        )

    def write(self, path: Path) -> None:
        """Write the page into a file. Raises OSError."""
        path.write_text(self.html(), encoding="utf-8")
