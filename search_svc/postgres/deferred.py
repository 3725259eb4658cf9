"""The table of indexes that are not built yet: lensmesh.deferred_indexes. A row goes when its index stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from lensmesh_chassis.errors import LensmeshError, Unavailable
from lensmesh_chassis.reasons import Reason
from search_svc.definitions import definition_from_json
from search_svc.model import Collection, Definition, IndexState, IndexStatus, NamedSpace
from search_svc.postgres.graphs import Graph
from search_svc.postgres.tables import index_name, items_table, vectors_table
from search_svc.refusals import RETRY_AFTER_S

# Before and behind the blocks that are counted lie phases that are not: waiting for writers, and looking for what came
# meanwhile.
_COUNTED = 0.95


@dataclass(frozen=True)
class DeferredIndex:
    """An index that is not built yet."""

    key: str
    """Of its collection."""
    collection: str
    position: int
    named: NamedSpace
    wanted: bool
    """True where it shall be built now."""

    @property
    def table(self) -> str:
        return vectors_table(self.key, self.position)

    @property
    def name(self) -> str:
        return index_name(self.key, self.position)

    @property
    def graph(self) -> Graph:
        """Graph that is to be built."""
        return Graph(self.key, self.position, self.named, self.name)


async def defer(connection: asyncpg.Connection, key: str, definition: Definition) -> None:
    """Note the indexes of a new collection that are left for later."""
    await connection.executemany(
        "INSERT INTO lensmesh.deferred_indexes (collection, space, at_item_count) VALUES ($1, $2, $3)",
        [
            (int(key), position, named.hnsw.deferred.at_item_count)
            for position, named in enumerate(definition.spaces)
            if named.hnsw and named.hnsw.deferred
        ],
    )


async def left(connection: asyncpg.Connection) -> Sequence[DeferredIndex]:
    """Return all indexes that are not built."""
    rows = await connection.fetch(
        "SELECT d.collection, d.space, d.wanted, c.name, c.definition"
        " FROM lensmesh.deferred_indexes AS d JOIN lensmesh.collections AS c ON c.key = d.collection ORDER BY 1, 2"
    )
    return [
        DeferredIndex(
            key=str(row["collection"]),
            collection=row["name"],
            position=row["space"],
            named=definition_from_json(row["name"], row["definition"]).spaces[row["space"]],
            wanted=row["wanted"],
        )
        for row in rows
    ]


async def want(connection: asyncpg.Connection, key: str) -> None:
    """Note that a collection's indexes shall be built now, and forget why they could not be."""
    await connection.execute(
        "UPDATE lensmesh.deferred_indexes SET wanted = true, reason = '', message = '' WHERE collection = $1", int(key)
    )


async def is_reached(connection: asyncpg.Connection, index: DeferredIndex) -> bool:
    """Tell whether the collection has as many items as its definition sets for a build."""
    count = index.named.hnsw.deferred.at_item_count if index.named.hnsw and index.named.hnsw.deferred else 0
    items = items_table(index.key)
    # The largest key costs nothing to ask, and there are never more items than that.
    if not count or (await connection.fetchval(f"SELECT max(key) FROM {items}") or 0) < count:
        return False
    there: int = await connection.fetchval(f"SELECT count(*) FROM (SELECT FROM {items} LIMIT $1) AS enough", count)
    return there == count


async def fail(connection: asyncpg.Connection, index: DeferredIndex, error: LensmeshError) -> None:
    """Note why an index could not be built."""
    await connection.execute(
        "UPDATE lensmesh.deferred_indexes SET reason = $3, message = $4 WHERE collection = $1 AND space = $2",
        int(index.key),
        index.position,
        str(error.reason),
        error.message,
    )


async def finish(connection: asyncpg.Connection, index: DeferredIndex) -> None:
    """Note that an index stands."""
    await connection.execute(
        "DELETE FROM lensmesh.deferred_indexes WHERE collection = $1 AND space = $2", int(index.key), index.position
    )


async def break_off(connection: asyncpg.Connection, collection: Collection) -> None:
    """End the builds of a collection that is to be removed: they would keep its tables for as long as they take."""
    tables = [vectors_table(collection.key, position) for position, _ in enumerate(collection.definition.spaces)]
    await connection.execute(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_progress_create_index"
        " WHERE datname = current_database() AND relid = ANY($1::text[]::regclass[])",
        tables,
    )


async def statuses(connection: asyncpg.Connection, collection: Collection) -> Mapping[str, IndexStatus]:
    """Return how far those of a collection's indexes are that are not built, by the name of their space."""
    if not any(named.hnsw and named.hnsw.deferred for named in collection.definition.spaces):
        return {}
    rows = await connection.fetch(
        """
        SELECT d.space, d.wanted, d.reason, d.message, p.phase LIKE 'index validation%' AS late,
            p.blocks_done::float8 / nullif(p.blocks_total, 0) AS part
        FROM lensmesh.deferred_indexes AS d LEFT JOIN pg_stat_progress_create_index AS p
            ON p.datname = current_database() AND p.relid = to_regclass('lensmesh.vectors_' || $1 || '_' || d.space)
        WHERE d.collection = $1::text::bigint
        """,
        collection.key,
    )
    return {
        collection.definition.spaces[row["space"]].name: IndexStatus(
            IndexState.BUILDING if row["wanted"] else IndexState.DEFERRED,
            _COUNTED if row["late"] else _COUNTED * (row["part"] or 0.0),
            _error(row["reason"], row["message"]) if row["reason"] else None,
        )
        for row in rows
    }


def _error(reason: str, message: str) -> LensmeshError:
    known = {each.value: each for each in Reason}
    return Unavailable(known.get(reason, Reason.STORE_UNAVAILABLE), message, retry_after_s=RETRY_AFTER_S)
