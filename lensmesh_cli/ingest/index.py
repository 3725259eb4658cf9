"""The index of a collection, built at the end of a bulk ingest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from lensmesh_cli.options import Connect
from lensmesh_cli.progress import ShareBar

if TYPE_CHECKING:
    from lensmesh_client import Client


def build_index(connect: Connect, collection: str, console: Console) -> None:
    """Build what was left for later, and show how far it is. One that is built already takes no time."""
    with ShareBar(console, "index") as share:

        async def work(client: Client) -> None:
            await client.collections.build_index(collection, on_progress=share.set)
            share.set(1.0)

        connect.run(work)
