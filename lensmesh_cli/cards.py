"""Hits as cards of a page: image, caption, score, and a bar for what each query says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape as escape_html
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

from lensmesh_cli.hits import caption_of, group_title, name_of, relevance_of, said_of, score_of
from lensmesh_cli.printable import printable
from lensmesh_cli.thumbnails import ImageSource, thumbnail

if TYPE_CHECKING:
    from lensmesh_client import Hit, HitGroup, LegScore

ImageOf: TypeAlias = "Callable[[Hit], ImageSource | None]"
# A bar that says "found, but last" can still be seen.
SHORTEST_BAR = 0.06


def escape(text: str) -> str:
    """Return text that HTML shows as it is, inside of quotes or not. Its characters keep their order on the page."""
    return escape_html(printable(text))


@dataclass(frozen=True, slots=True)
class ShownQuery:
    """A query of several, as the page shows it."""

    name: str
    words: str
    away: bool = False
    """True where it pushes away what it finds."""
    image: ImageSource | None = None


def asked_line(queries: Sequence[ShownQuery]) -> str:
    """Return the line of queries above their hits."""
    return f'<ul class="queries">{"".join(_chip(query) for query in queries)}</ul>' if queries else ""


def _chip(query: ShownQuery) -> str:
    image = "" if query.image is None else f'<img alt="" src="{thumbnail(query.image)}">'
    away = ' class="away"' if query.away else ""
    return f"<li{away}>{image}<b>{escape(query.name)}</b>{escape(query.words)}</li>"


class Cards:
    """The cards of one search."""

    def __init__(
        self,
        image_of: ImageOf,
        verdict: Callable[[Hit], bool | None] | None,
        queries: Sequence[ShownQuery],
        hits: Sequence[Hit],
        *,
        metadata: bool,
        group_by: Sequence[str] = (),
    ) -> None:
        self._image_of = image_of
        self._verdict = verdict
        self._metadata = metadata
        self._group_by = group_by
        self._queries = queries
        self._scales = _scales(hits)

    def all_of(self, hits: Sequence[Hit]) -> str:
        """Return the cards of hits, side by side."""
        return self._side_by_side([self._card(hit) for hit in hits])

    @staticmethod
    def _side_by_side(cards: Sequence[str]) -> str:
        return f'<div class="cards">{"".join(cards) or "<p>nothing found</p>"}</div>'

    def by_group(self, groups: Sequence[HitGroup]) -> str:
        """Return the cards with their group.

        A group of several hits is a block. Groups of one hit that follow one another are side by side, each with its
        name on its card.
        """
        blocks: list[str] = []
        for alone, several in groupby(groups, lambda group: len(group.hits) == 1):
            if alone:
                blocks.append(self._side_by_side([self._card(group.hits[0], self._title(group)) for group in several]))
            else:
                blocks += [
                    f"<h3>{escape(self._title(group)) or 'alone'}</h3>{self.all_of(group.hits)}" for group in several
                ]
        return "".join(f'<div class="group">{block}</div>' for block in blocks)

    def _title(self, group: HitGroup) -> str:
        return group_title(self._group_by, group.values)

    def _card(self, hit: Hit, group: str = "") -> str:
        right = None if self._verdict is None else self._verdict(hit)
        mark = "" if right is None else ' class="right"' if right else ' class="wrong"'
        image = self._image_of(hit)
        source = "" if image is None else thumbnail(image)
        tag = f'<img alt="{escape(caption_of(hit))}" src="{source}">' if source else ""
        score = score_of(hit, fused=bool(self._queries))
        known = "" if hit.relevance is None else f"<small>relevance {relevance_of(hit)}</small>"
        small = [name_of(hit), said_of(hit) if self._metadata else ""]
        return (
            f'<figure{mark}><span class="frame">{tag}<span class="score">{score}</span></span>'
            f"<figcaption>{escape(caption_of(hit))}"
            + (f'<small class="of">{escape(group)}</small>' if group else "")
            + known
            + "".join(f"<small>{escape(text)}</small>" for text in small if text)
            + self._bars(hit)
            + "</figcaption></figure>"
        )

    def _bars(self, hit: Hit) -> str:
        said = {leg.name: leg for leg in hit.legs}
        bars = "".join(self._bar(query, said.get(query.name)) for query in self._queries)
        return f'<span class="legs">{bars}</span>' if bars else ""

    def _bar(self, query: ShownQuery, leg: LegScore | None) -> str:
        if leg is None:
            return f"<span>{escape(query.name)}</span><i></i><em>-</em><em></em>"
        low, high = self._scales[query.name]
        share = SHORTEST_BAR + (1 - SHORTEST_BAR) * ((leg.score - low) / (high - low) if high > low else 1.0)
        away = ' class="away"' if query.away else ""
        return (
            f'<span>{escape(query.name)}</span><i{away}><b style="width:{100 * share:.0f}%"></b></i>'
            f"<em>#{leg.rank}</em><em>{leg.score:.3f}</em>"
        )


def _scales(hits: Sequence[Hit]) -> dict[str, tuple[float, float]]:
    """Return the lowest and the highest score of each query, over the hits that are shown."""
    scores: dict[str, list[float]] = {}
    for hit in hits:
        for leg in hit.legs:
            scores.setdefault(leg.name, []).append(leg.score)
    return {name: (min(found), max(found)) for name, found in scores.items()}
