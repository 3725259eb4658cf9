"""Matches as cards of a page: both images side by side, the verdict, and a bar for each kind of evidence."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from lensmesh_cli.cards import escape
from lensmesh_cli.hits import caption_of, said_of
from lensmesh_cli.match.drawing import GAP, drawing
from lensmesh_cli.match.words import entry_of, rests_on, verdict_of
from lensmesh_cli.thumbnails import ImageSource, Thumbnail, small_jpeg

if TYPE_CHECKING:
    from lensmesh_client import Item, MatchCandidate, MatchResult

ImageOfItem: TypeAlias = "Callable[[Item], ImageSource | None]"
_CLASSES = {"match": "yes", "unsure": "maybe", "no match": "no"}
# Hashes that differ in half of their bits are of unlike images: an empty bar.
_UNLIKE_BITS = 128


def cards(matches: list[str]) -> str:
    """Return cards side by side."""
    return f'<div class="matches">{"".join(matches) or "<p>nothing was looked at</p>"}</div>'


def card(name: str, image: ImageSource | None, found: MatchResult, image_of: ImageOfItem) -> str:
    """Return the card of one image.

    Args:
        name: as the image is called.
        image: where it can be shown.
        found: what it was taken for.
        image_of: finds the image of an item, None where it cannot be shown.
    """
    kind = _CLASSES.get(str(found.verdict), "no")
    best = found.best
    left = None if image is None else small_jpeg(image)
    right = None if best is None else _small(best, image_of)
    return (
        f'<article class="match {kind}"><header><b>{escape(name)}</b><span>{escape(verdict_of(found))}</span></header>'
        f'<div class="pair" style="gap:{100 * GAP / (2 + GAP):.2f}%">{_frame(left, name)}'
        f"{_frame(right, '' if best is None else entry_of(best))}"
        + ("" if best is None or left is None or right is None else drawing(left, right, best.geometry))
        + "</div>"
        + (_error(found) if best is None else _said(best, nearest=kind == "no") + _bars(best))
        + _alternatives(found)
        + "</article>"
    )


def _small(candidate: MatchCandidate, image_of: ImageOfItem) -> Thumbnail | None:
    source = image_of(candidate.item)
    return None if source is None else small_jpeg(source)


def _frame(small: Thumbnail | None, name: str) -> str:
    shown = "" if small is None else f'<img alt="{escape(name)}" src="{small.uri}">'
    return f'<span class="frame">{shown}</span>'


def _error(found: MatchResult) -> str:
    words = "there is nothing to be found" if found.error is None else found.error.message
    return f'<p class="what">{escape(words)}</p>'


def _said(best: MatchCandidate, *, nearest: bool) -> str:
    small = [caption_of(best.item), said_of(best.item), rests_on(best)]
    return (
        f'<p class="what">{"nearest: " if nearest else ""}<b>{escape(entry_of(best))}</b></p>'
        + "".join(f"<small>{escape(text)}</small>" for text in small if text)
    )  # fmt: skip


def _bars(best: MatchCandidate) -> str:
    rows = [("confidence", best.confidence, f"{best.confidence:.2f}")]
    if best.cosine is not None:
        rows.append(("cosine", best.cosine, f"{best.cosine:.3f}"))
    if best.hash_distance is not None:
        rows.append(("hash", 1 - best.hash_distance / _UNLIKE_BITS, f"{best.hash_distance} bits differ"))
    if (geometry := best.geometry) is not None:
        share = geometry.inlier_count / max(geometry.tentative_count, 1)
        rows.append(("geometry", share, f"{geometry.inlier_count} of {geometry.tentative_count} pairs"))
    bars = "".join(
        f'<span>{name}</span><i><b style="width:{100 * min(1.0, max(0.0, share)):.0f}%"></b></i><em>{said}</em>'
        for name, share, said in rows
    )
    return f'<span class="evidence">{bars}</span>'


def _alternatives(found: MatchResult) -> str:
    if not found.alternatives:
        return ""
    rows = "".join(
        f"<li>{escape(entry_of(each))}<em>{each.confidence:.2f}</em><small>{escape(rests_on(each))}</small></li>"
        for each in found.alternatives
    )
    return f'<ol class="others">{rows}</ol>'
