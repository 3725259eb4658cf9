"""Results of a search, printed: a table for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lensmesh_cli import hits
from lensmesh_cli.console import note, out
from lensmesh_cli.search.asked import AskedQuery

if TYPE_CHECKING:
    from lensmesh_client import SearchResult


def as_json(queries: Sequence[AskedQuery], found: SearchResult) -> dict[str, object]:
    """Return it for programs."""
    return {
        "queries": [query.as_json() for query in queries],
        "hits": [hits.as_json(hit) for hit in found.hits],
        "failed": [
            {"name": failed.name, "reason": failed.error.reason, "message": failed.error.message}
            for failed in found.failed
        ],
        "encode_us": found.encode_us,
        "store_us": found.store_us,
    }


def show(queries: Sequence[AskedQuery], found: SearchResult, *, grouped: bool) -> None:
    """Print the table, and on standard error what is missing in it."""
    for failed in found.failed:
        note(f"left out: {failed.name}: {failed.error.message}")
    if found.hits:
        legs = [query.name for query in queries] if len(queries) > 1 else []
        out.print(hits.table(found.hits, legs=legs, groups=found.groups if grouped else (), width=out.width))
    else:
        note("nothing found")
