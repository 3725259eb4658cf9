"""Search hits as a table, as JSON, and as cards of a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from rich.table import Table
from rich.text import Text

from lensmesh_cli.printable import printable

if TYPE_CHECKING:
    from lensmesh_client import Hit, HitGroup, Item

METADATA_SHOWN = 60
# Of a table: characters of a query's column, and those that all other columns need to be read.
LEG_WIDTH, TEXTS_WIDTH = 13, 45


def table(
    hits: Sequence[Hit],
    title: str = "",
    legs: Sequence[str] = (),
    groups: Sequence[HitGroup] = (),
    width: int = 200,
) -> Table:
    """Return a table of rank, score, name, caption and metadata.

    `legs` names several queries: each has a column with its own score and the hit's rank, or a line of one column where
    `width`, in characters, leaves no room for so many. With `groups`, hits stand by group.
    """
    rows = Table(box=None, header_style="bold", pad_edge=False, title=title or None, title_justify="left")
    rows.add_column("", justify="right", style="dim", no_wrap=True)
    rows.add_column("score", justify="right", style="cyan", no_wrap=True)
    told = any(hit.relevance is not None for hit in hits)
    if told:
        rows.add_column("relevance", justify="right", no_wrap=True)
    beside = len(legs) * LEG_WIDTH <= width - TEXTS_WIDTH
    for name in legs if beside else ["queries"] if legs else []:
        rows.add_column(Text(printable(name)), justify="right", no_wrap=True)
    if groups:
        rows.add_column("group", overflow="fold", style="bold")
    rows.add_column("image", overflow="fold")
    rows.add_column("caption", overflow="fold")
    rows.add_column("metadata", style="dim", overflow="fold")
    ranks = {id(hit): str(rank) for rank, hit in enumerate(hits, 1)}
    # A group's name stands beside its first hit alone.
    named = [(hit, group_name(group.values) if hit is group.hits[0] else "") for group in groups for hit in group.hits]
    for hit, group in named if groups else [(hit, None) for hit in hits]:
        said = {leg.name: f"{leg.score:.3f} #{leg.rank}" for leg in hit.legs}
        relevances = [relevance_of(hit)] if told else []
        scores = [said.get(name, "-") for name in legs]
        if legs and not beside:
            scores = ["\n".join(f"{printable(name)} {score}" for name, score in zip(legs, scores, strict=True))]
        cells: list[str | Text] = [ranks[id(hit)], score_of(hit, fused=bool(legs)), *relevances]
        cells += [Text(score) for score in scores]
        texts = [*([] if group is None else [group]), name_of(hit), caption_of(hit), said_of(hit)]
        rows.add_row(*cells, *(Text(text) for text in texts))
    return rows


def score_of(hit: Hit, *, fused: bool) -> str:
    """Format the score. Fused ones lie close together."""
    return f"{hit.score:.4f}" if fused else f"{hit.score:.3f}"


def relevance_of(hit: Hit) -> str:
    """Format the relevance, "-" for none."""
    return "-" if hit.relevance is None else f"{hit.relevance:.2f}"


def group_name(values: Sequence[object] | None) -> str:
    """Format the values of a group, "" where the item has none."""
    return printable(" · ".join(_readable(value) for value in values or ()))


def group_title(fields: Sequence[str], values: Sequence[object] | None) -> str:
    """Format the values of a group with their fields, as in "scene 27 · year 1870"; without fields, the bare values."""
    if not values or len(fields) != len(values):
        return group_name(values)
    return printable(
        " · ".join(f"{field.lstrip('$')} {_readable(value)}" for field, value in zip(fields, values, strict=True))
    )


def said_of(hit: Hit | Item, longest: int = METADATA_SHOWN) -> str:
    """Format the metadata for reading, as in "year 1870, colours red blue"."""
    words = printable(", ".join(f"{key} {_readable(value)}" for key, value in _shown(hit.metadata).items()))
    return words if len(words) <= longest else words[: longest - 1] + "…"


def _shown(metadata: Mapping[str, object]) -> dict[str, object]:
    """Return metadata for reading: tags that an ingest wrote with their probabilities, and without their digest."""
    shown = dict(metadata)
    for name, labels in metadata.items():
        shares = metadata.get(f"{name}_probability")
        if f"{name}_digest" in metadata and isinstance(labels, list) and isinstance(shares, dict):
            del shown[f"{name}_digest"], shown[f"{name}_probability"]
            shown[name] = [_with_share(label, shares) for label in labels]
    return shown


def _with_share(label: object, shares: Mapping[str, object]) -> object:
    # Whoever wrote it may mean something else by these names.
    share = shares.get(label) if isinstance(label, str) else None
    return f"{label} ({share:.2f})" if isinstance(share, int | float) else label


def _readable(value: object) -> str:
    if isinstance(value, list):
        return " ".join(_readable(each) for each in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def name_of(hit: Hit | Item) -> str:
    """Return the file's name where it is known, else the beginning of the id."""
    # An item's address is whatever its writer stored; it need not be a URL.
    address = hit.image_uri.partition("?")[0].partition("#")[0].partition("://")
    name = unquote(address[2] or address[0], errors="backslashreplace").rsplit("/", 1)[-1]
    return printable(name or (hit.id[:16] + "…" if len(hit.id) > 20 else hit.id))


def caption_of(hit: Hit | Item) -> str:
    """Return the caption's text, "" for none."""
    return printable(hit.caption.text) if hit.caption else ""


def as_json(hit: Hit) -> dict[str, Any]:
    """Return the hit for programs."""
    return {
        "id": hit.id,
        "score": hit.score,
        "relevance": hit.relevance,
        "caption": hit.caption.text if hit.caption else None,
        "caption_confidence": hit.caption.confidence if hit.caption else None,
        "metadata": hit.metadata,
        "image_uri": hit.image_uri,
        "content_digest": hit.content_digest,
        "legs": [{"name": leg.name, "score": leg.score, "rank": leg.rank} for leg in hit.legs],
        "group": None if hit.group is None else [*hit.group],
    }
