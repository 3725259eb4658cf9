"""Fields of a filter that no item has: a misspelt name finds nothing, and no error tells of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lensmesh_cli.console import note
from lensmesh_cli.ingest.stored import Stored, fields_of
from lensmesh_cli.options import Connect
from lensmesh_cli.printable import printable
from lensmesh_client import LensmeshError

if TYPE_CHECKING:
    from lensmesh.search.v1 import search_pb2


async def name_unknown_fields(connect: Connect, collection: str, chosen: search_pb2.Filter) -> None:
    """Say which fields of a filter no item has."""
    connection = connect.connection()
    try:
        stored = Stored(connection, collection)
        for field in fields_of(chosen):
            if not await stored.any_with(field):
                note(f"no item has a field {printable(field)}: is it spelt right?")
    except LensmeshError:
        # The search itself went well; this was a service.
        pass
    finally:
        await connection.close()
