"""Listing of items by id: one page, with all that is shown of each item."""

import asyncpg

from search_svc.filters import Filter
from search_svc.model import Collection, ItemPage, View
from search_svc.postgres.predicates import Parameters, Predicate
from search_svc.postgres.reading import ItemColumns, RowReader, at_once


class Listing:
    """A page of a collection's items: up to `count` that pass the filter, behind the id `after`.

    It ends before `max_bytes` of content are much exceeded, and has at least one item where there is one.
    """

    def __init__(
        self, collection: Collection, tree: Filter | None, *, after: str, count: int, view: View, max_bytes: int
    ) -> None:
        self._after = after
        self._count = count
        self._collection = collection
        self._view = view
        self._max_bytes = max_bytes
        parameters = Parameters()
        behind, limit = parameters.add(after, "text"), parameters.add(count, "bigint")
        condition = "TRUE" if tree is None else Predicate(collection.definition, parameters).sql(tree)
        content = ItemColumns(collection, view)
        self._statement = f"""
            SELECT {content.columns} FROM (
                SELECT i.* FROM {content.items} WHERE i.id > {behind} AND ({condition}) ORDER BY i.id LIMIT {limit}
            ) AS i {content.joins} ORDER BY i.id"""
        self._values = parameters.values[2:]

    @property
    def is_single(self) -> bool:
        """True where one statement reads all of it."""
        return self._count < at_once(self._view)

    async def read(self, connection: asyncpg.Connection) -> ItemPage:
        """Read the page, and one item behind it, which tells that there is a next one."""
        reader = RowReader(self._collection, self._view, self._max_bytes)
        after, left, more = self._after, self._count, True
        while more:
            size = min(at_once(self._view), left + 1)
            rows = await connection.fetch(self._statement, after, size, *self._values)
            if not all(reader.take(row) for row in rows[:left]) or len(rows) > left:
                break
            left, more = left - len(rows), len(rows) == size
            after = rows[-1][0] if rows else after
        items = reader.taken().items
        return ItemPage(items, items[-1].id if more else None)
