"""Search hits as a table, as JSON, and as cards of a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from rich.table import Table
from rich.text import Text

from lensmesh_cli.printable import printable

if TYPE_CHECKING:
    from lensmesh_client import Hit

METADATA_SHOWN = 60


def table(hits: Sequence[Hit], title: str = "") -> Table:
    """Return a table of rank, score, name, caption and metadata."""
    rows = Table(box=None, header_style="bold", pad_edge=False, title=title or None, title_justify="left")
    rows.add_column("", justify="right", style="dim")
    rows.add_column("score", justify="right", style="cyan")
    rows.add_column("image", overflow="fold")
    rows.add_column("caption", overflow="fold")
    rows.add_column("metadata", style="dim", overflow="fold")
    for rank, hit in enumerate(hits, 1):
        rows.add_row(str(rank), f"{hit.score:.3f}", Text(name_of(hit)), Text(caption_of(hit)), Text(said_of(hit)))
    return rows


def said_of(hit: Hit, longest: int = METADATA_SHOWN) -> str:
    """Format the metadata for reading, as in "year 1870, colours red blue"."""
    words = printable(", ".join(f"{key} {_readable(value)}" for key, value in hit.metadata.items()))
    return words if len(words) <= longest else words[: longest - 1] + "…"


def _readable(value: object) -> str:
    if isinstance(value, list):
        return " ".join(_readable(each) for each in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def name_of(hit: Hit) -> str:
    """Return the file's name where it is known, else the beginning of the id."""
    # An item's address is whatever its writer stored; it need not be a URL.
    address = hit.image_uri.partition("?")[0].partition("#")[0].partition("://")
    name = unquote(address[2] or address[0], errors="backslashreplace").rsplit("/", 1)[-1]
    return printable(name or (hit.id[:16] + "…" if len(hit.id) > 20 else hit.id))


def caption_of(hit: Hit) -> str:
    """Return the caption's text, "" for none."""
    return printable(hit.caption.text) if hit.caption else ""


def as_json(hit: Hit) -> dict[str, Any]:
    """Return the hit for programs."""
    return {
        "id": hit.id,
        "score": hit.score,
        "caption": hit.caption.text if hit.caption else None,
        "caption_confidence": hit.caption.confidence if hit.caption else None,
        "metadata": hit.metadata,
        "image_uri": hit.image_uri,
        "content_digest": hit.content_digest,
    }
