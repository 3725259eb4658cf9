"""A self-contained HTML page of found images: no script, no other file, thumbnails inside."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape as escape_html
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from lensmesh_chassis.files import read_file
from lensmesh_cli.hits import caption_of, name_of, said_of
from lensmesh_cli.printable import printable

if TYPE_CHECKING:
    from lensmesh_client import Hit

THUMBNAIL_PX = 240
MAX_PIXELS = 100_000_000
MAX_BYTES = 200 * 1024 * 1024
METADATA_SHOWN = 60
WAITING = "queue"
"""The part that is no work. Its bar is pale, and does not set the scale of the others."""

ImageSource: TypeAlias = "Path | bytes"
ImageOf: TypeAlias = "Callable[[Hit], ImageSource | None]"


@dataclass(frozen=True, slots=True)
class Section:
    """One search: the query, and what was found."""

    title: str
    hits: Sequence[Hit]
    note: str = ""
    image: ImageSource | None = None
    """The query, where it was an image."""
    verdict: Callable[[Hit], bool | None] | None = None
    """A function that tells whether a hit is right, where the truth is known."""


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
    """Whether cards show metadata."""
    _sections: list[str] = field(default_factory=list)

    def add(self, section: Section, image_of: ImageOf) -> None:
        """Add a search. `image_of` finds a hit's image."""
        cards = "".join(_card(hit, image_of(hit), section.verdict, self.metadata) for hit in section.hits)
        asked = "" if section.image is None else f'<img alt="" src="{thumbnail(section.image)}">'
        note = f"<p>{escape(section.note)}</p>" if section.note else ""
        self._sections.append(
            f'<section class="panel"><div class="ask">{asked}<div><h2>{escape(section.title)}</h2>{note}</div></div>'
            f'<div class="cards">{cards or "<p>nothing found</p>"}</div></section>'
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


_SCAN = b"\xff\xda"
_MOST_SCANS = 50


def escape(text: str) -> str:
    """Return text that HTML shows as it is, inside of quotes or not. Its characters keep their order on the page."""
    return escape_html(printable(text))


def thumbnail(image: ImageSource) -> str:
    """Return a data URI of a small JPEG; "" where the image cannot be read here."""
    from PIL import Image, ImageOps

    try:
        content = image if isinstance(image, bytes) else read_file(image, MAX_BYTES).data
        # Each scan of a JPEG goes over all of its pixels: a small file with hundreds takes a minute.
        if content.count(_SCAN) > _MOST_SCANS:
            return ""
        with _silence(), Image.open(io.BytesIO(content)) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                return ""
            # JPEG is decoded small at once.
            opened.draft("RGB", (2 * THUMBNAIL_PX, 2 * THUMBNAIL_PX))
            small = ImageOps.exif_transpose(opened).convert("RGB")
    except Exception:  # noqa: BLE001  # Pillow raises many kinds for damaged files, and a page goes without them
        return ""
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the decoders' own messages off the terminal: libtiff writes thousands of lines about one odd file."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:
        # Nobody hears anything.
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _card(hit: Hit, image: ImageSource | None, verdict: Callable[[Hit], bool | None] | None, metadata: bool) -> str:
    right = None if verdict is None else verdict(hit)
    mark = "" if right is None else ' class="right"' if right else ' class="wrong"'
    source = "" if image is None else thumbnail(image)
    tag = f'<img alt="{escape(caption_of(hit))}" src="{source}">' if source else ""
    said = said_of(hit, METADATA_SHOWN) if metadata else ""
    return (
        f'<figure{mark}><span class="frame">{tag}</span>'
        f'<figcaption><span class="score">{hit.score:.3f}</span>{escape(caption_of(hit))}'
        f"<small>{escape(name_of(hit))}</small>"
        + (f"<small>{escape(said)}</small>" if said else "")
        + "</figcaption></figure>"
    )
