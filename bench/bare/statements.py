"""The SQL that a search and a look-up cannot do without, over asyncpg, prepared once.

Each is one statement over the tables that SearchService made, on a connection that nobody else uses.
"""

from __future__ import annotations

import asyncpg
import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from pgvector.asyncpg import register_vector

from search_svc.postgres.tables import CONTENT, SCHEMA, items_table, members_table, vectors_table

HITS = 10
# As LENSMESH_SEARCH_HNSW_EF sets it.
EF = 200
_COLUMNS = ", ".join(f"i.{column}" for column in ("id", *CONTENT, "create_time", "update_time"))


async def connect(uri: str) -> asyncpg.Connection:
    """Open a connection whose session has the settings that a search needs."""
    connection = await asyncpg.connect(uri)
    await connection.execute(
        f"SET search_path = {SCHEMA}, public; SET jit = off; SET hnsw.ef_search = {EF};"
        " SET hnsw.iterative_scan = relaxed_order"
    )
    await register_vector(connection, schema="public")
    return connection


class Statements:
    """The two statements of one collection."""

    def __init__(self, nearest: asyncpg.PreparedStatement, item: asyncpg.PreparedStatement) -> None:
        self._nearest = nearest
        self._item = item

    @classmethod
    async def prepare(cls, connection: asyncpg.Connection, collection: str) -> Statements:
        """Prepare them for the collection's own tables."""
        key = str(await connection.fetchval(f"SELECT key FROM {SCHEMA}.collections WHERE name = $1", collection))
        items, members, vectors = items_table(key), members_table(key, 0), vectors_table(key, 0)
        nearest = await connection.prepare(
            f"""
            WITH nearest AS MATERIALIZED (
                SELECT key, vector <=> $1 AS distance FROM {vectors} ORDER BY vector <=> $1 LIMIT {HITS}
            )
            SELECT {_COLUMNS}, 1 - distance AS score
            FROM nearest JOIN {members} AS m ON m.vector = nearest.key JOIN {items} AS i ON i.key = m.key
            ORDER BY distance LIMIT {HITS}
            """
        )
        return cls(nearest, await connection.prepare(f"SELECT {_COLUMNS} FROM {items} AS i WHERE i.id = $1"))

    async def nearest(self, vector: NDArray[np.float32]) -> None:
        """Fetch the items nearest to a vector."""
        rows = await self._nearest.fetch(HalfVector(vector))
        if len(rows) != HITS:
            raise ValueError(f"{len(rows)} hits, not {HITS}")

    async def item(self, item_id: str) -> None:
        """Fetch one item."""
        if await self._item.fetchrow(item_id) is None:
            raise ValueError(f"there is no item {item_id!r}")
