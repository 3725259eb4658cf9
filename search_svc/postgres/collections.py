"""Collections in PostgreSQL: making, finding, listing and removing them."""

from collections.abc import Sequence

import asyncpg

from search_svc.calibration import Calibration, Calibrations, from_json, joined
from search_svc.definitions import check_same, definition_from_json, definition_to_json
from search_svc.model import Collection, CountedCollection, Definition
from search_svc.postgres import deferred, sketches
from search_svc.postgres.tables import create_statements, features_table, items_table, members_table, vectors_table

_COLUMNS = "key, name, definition, create_time, uid, calibrations"
_UNBUILT = "ARRAY(SELECT space FROM lensmesh.deferred_indexes WHERE collection = key) AS unbuilt"
# With the hash of the name: one maker or remover of a collection at a time.
_LOCK = 0x6C656E73


async def create(connection: asyncpg.Connection, definition: Definition) -> CountedCollection:
    """Make the collection in the caller's transaction, or return what is there if that is the same."""
    await _lock(connection, definition.name)
    there = await find(connection, definition.name)
    if there is not None:
        check_same(there.definition, definition)
        return await counted(connection, there)
    key = str(
        await connection.fetchval(
            "INSERT INTO lensmesh.collections (name, definition, create_time) VALUES ($1, $2, now()) RETURNING key",
            definition.name,
            definition_to_json(definition),
        )
    )
    for statement in (
        *create_statements(key, definition),
        *sketches.add_columns(key, definition),
        *sketches.create_indexes(key, definition),
    ):
        await connection.execute(statement)
    await deferred.defer(connection, key, definition)
    made = await find(connection, definition.name)
    assert made is not None
    return await counted(connection, made)


async def find(connection: asyncpg.Connection, name: str) -> Collection | None:
    """Return the collection of that name, or None."""
    row = await connection.fetchrow(f"SELECT {_COLUMNS}, {_UNBUILT} FROM lensmesh.collections WHERE name = $1", name)
    return _collection(row) if row else None


async def page(connection: asyncpg.Connection, *, after: str, count: int) -> Sequence[CountedCollection]:
    """Return up to `count` collections by name, beginning behind `after`."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS}, {_UNBUILT} FROM lensmesh.collections WHERE name > $1 ORDER BY name LIMIT $2", after, count
    )
    return [await counted(connection, _collection(row)) for row in rows]


async def counted(connection: asyncpg.Connection, collection: Collection) -> CountedCollection:
    """Return the collection with its count, which is counted and never estimated, and how far its indexes are."""
    items = await connection.fetchval(f"SELECT count(*) FROM {items_table(collection.key)}")
    return CountedCollection(collection, items, await deferred.statuses(connection, collection))


async def calibrations(connection: asyncpg.Connection, keys: Sequence[str]) -> dict[str, Calibrations]:
    """Return what is known of cosines in collections, by their keys; one that is gone is missing."""
    rows = await connection.fetch(
        "SELECT key, calibrations FROM lensmesh.collections WHERE key = ANY($1::bigint[])", [int(key) for key in keys]
    )
    return {str(row["key"]): from_json(row["calibrations"]) for row in rows}


async def save_calibrations(
    connection: asyncpg.Connection, collection: Collection, space: str, measured: Sequence[Calibration]
) -> Calibrations | None:
    """Keep what cosines in a space mean. Return all that is known then; None if the collection is gone."""
    key = int(collection.key)
    kept = await connection.fetchval("SELECT calibrations FROM lensmesh.collections WHERE key = $1 FOR UPDATE", key)
    if kept is None:
        return None
    text = joined(kept, space, measured)
    await connection.execute("UPDATE lensmesh.collections SET calibrations = $2 WHERE key = $1", key, text)
    return from_json(text)


async def remove(connection: asyncpg.Connection, name: str) -> int:
    """Remove the collection and return how many items went with it; 0 where there is none."""
    await _lock(connection, name)
    collection = await find(connection, name)
    if collection is None:
        return 0
    tables = [items_table(collection.key)]
    for position, _ in enumerate(collection.definition.spaces):
        tables += [vectors_table(collection.key, position), members_table(collection.key, position)]
    if collection.definition.local_features:
        tables.append(features_table(collection.key))
    await deferred.break_off(connection, collection)
    # Writers that are at it finish first and count.
    await connection.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")
    items: int = await connection.fetchval(f"SELECT count(*) FROM {tables[0]}")
    await connection.execute(f"DROP TABLE {', '.join(tables)}")
    await connection.execute("DELETE FROM lensmesh.collections WHERE name = $1", name)
    return items


async def _lock(connection: asyncpg.Connection, name: str) -> None:
    await connection.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", _LOCK, name)


def _collection(row: asyncpg.Record) -> Collection:
    definition = definition_from_json(row["name"], row["definition"])
    unbuilt = frozenset(definition.spaces[position].name for position in row["unbuilt"])
    calibrations = from_json(row["calibrations"])
    return Collection(str(row["key"]), definition, row["create_time"], str(row["uid"]), calibrations, unbuilt)
