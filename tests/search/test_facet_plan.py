"""The work of counting facets in PostgreSQL: no look at every value that is told for each item."""

import json
from typing import Any

import asyncpg

from search_svc.app import make_store
from search_svc.model import FieldType
from search_svc.postgres import facets
from search_svc.postgres.store import PostgresStore
from tests.search.conftest import settings_for
from tests.search.support import definition, domain_item

ITEMS, TOLD = 400, 200


class Explaining:
    """A connection that notes how many rows each part of its statements' plans passed on."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.rows: list[float] = []

    async def fetch(self, statement: str, *values: object) -> Any:
        plan = await self._connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *values)
        self._note(json.loads(plan)[0]["Plan"])
        return await self._connection.fetch(statement, *values)

    def _note(self, node: dict[str, Any]) -> None:
        self.rows.append(node["Actual Rows"] * node["Actual Loops"])
        for each in node.get("Plans", ()):
            self._note(each)


async def test_told_values_are_met_once(database_url: str) -> None:
    store = make_store(settings_for(database_url))
    assert isinstance(store, PostgresStore)
    await store.open()
    made = await store.create_collection(definition(indexes={"k": FieldType.KEYWORD}), timeout_s=60)
    items = [domain_item(f"i{n}", metadata=f'{{"k": "v{n}"}}') for n in range(ITEMS)]
    await store.upsert(made.collection, items, timeout_s=60)
    connection = await asyncpg.connect(database_url)
    explaining = Explaining(connection)
    [field] = made.collection.definition.field_indexes
    facet, without = await facets.count_all(explaining, made.collection, field, tree=None, limit=TOLD)
    await connection.close()
    await store.close()
    assert (len(facet.counts), facet.other_count, without) == (TOLD, ITEMS - TOLD, 0)
    assert max(explaining.rows) <= 2 * ITEMS
