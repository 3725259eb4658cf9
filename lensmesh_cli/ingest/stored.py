"""The stored side of a collection: its identity, the items that are there, and their removal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_client.errors import NotFound
from lensmesh_client.guard import check_text

if TYPE_CHECKING:
    from lensmesh_client.connection import Connection

DEFAULT = "default"
"""The default collection of a router that does not name it."""
# Items of one call: with the largest metadata they fit into one message.
CALL_ITEMS = 100
# That a list of filters may hold.
FILTERS = 64


class Stored:
    """A collection of a mesh. "" is the mesh's default, whose name is asked for once."""

    def __init__(self, connection: Connection, collection: str) -> None:
        self._connection = connection
        self._collection = collection

    async def name(self) -> str:
        """Return the collection's own name. Raises InvalidInput for a name that no message can hold."""
        check_text(self._collection, "collection")
        if not self._collection:
            status = await self._connection.call(self._connection.router.GetStatus, router_pb2.GetStatusRequest())
            self._collection = status.default_collection or DEFAULT
        return self._collection

    async def identity(self) -> str:
        """Return an id that no other collection has, not even a later one of the same name.

        "" means that there is no such collection.
        """
        request = search_pb2.GetCollectionRequest(name=await self.name())
        try:
            found = (await self._connection.call(self._connection.search.GetCollection, request)).collection
        except NotFound:
            return ""
        return found.uid or f"made {found.create_time.ToJsonString()}"

    async def items(self, ids: Sequence[str]) -> dict[str, search_pb2.Item]:
        """Return the items that are there, by id, without their vectors."""
        found: dict[str, search_pb2.Item] = {}
        for start in range(0, len(ids), CALL_ITEMS):
            request = search_pb2.GetItemsRequest(collection=await self.name(), ids=ids[start : start + CALL_ITEMS])
            answer = await self._connection.call(self._connection.search.GetItems, request)
            found |= {item.id: item for item in answer.items}
        return found

    async def delete_unchanged(self, update_times: Mapping[str, str]) -> int:
        """Remove items by id, each only if it was last written at the given time (RFC 3339).

        Return how many were removed.
        """
        removed = 0
        ids = list(update_times)
        for start in range(0, len(ids), FILTERS):
            some = {item_id: update_times[item_id] for item_id in ids[start : start + FILTERS]}
            request = search_pb2.DeleteItemsRequest(collection=await self.name(), filter=_written_at(some))
            removed += (await self._connection.call(self._connection.search.DeleteItems, request)).deleted_count
        return removed

    async def any_with(self, field: str) -> bool:
        """Tell whether any item has that field."""
        request = search_pb2.ListItemsRequest(
            collection=await self.name(),
            filter=search_pb2.Filter(condition=search_pb2.Condition(field=field, exists=True)),
            page_size=1,
        )
        return bool((await self._connection.call(self._connection.search.ListItems, request)).items)


def _written_at(update_times: Mapping[str, str]) -> search_pb2.Filter:
    """Build a filter for items by id and time of their last write. The store checks and removes in one step."""
    ids_by_time: dict[str, list[str]] = {}
    for item_id, moment in update_times.items():
        ids_by_time.setdefault(moment, []).append(item_id)
    chosen = search_pb2.Filter()
    for moment, ids in ids_by_time.items():
        both = chosen.any.filters.add().all
        one_of = both.filters.add().condition
        one_of.field = "$id"
        one_of.one_of.extend(ids)
        at = both.filters.add().condition
        at.field = "$update_time"
        at.range.at_least.string_value = at.range.at_most.string_value = moment
    return chosen


def fields_of(chosen: search_pb2.Filter) -> list[str]:
    """Return the metadata fields that a filter tests, each once. Fields that shall not exist are left out."""
    condition = chosen.condition
    match chosen.WhichOneof("kind"):
        case "condition":
            wanted = condition.WhichOneof("test") != "exists" or condition.exists
            return [condition.field] if wanted and not condition.field.startswith("$") else []
        case "all" | "any" as kind:
            inner = getattr(chosen, kind).filters
        case "not":
            inner = [getattr(chosen, "not")]
        case _:
            inner = []
    return list(dict.fromkeys(field for each in inner for field in fields_of(each)))
