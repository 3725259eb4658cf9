"""Writing items: a fixed number of statements, however many items."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
from pgvector import HalfVector, Vector

from search_svc.filters import Filter
from search_svc.model import ROUNDING, Collection, Item, NamedSpace, Numbers, Outcome, StoredAs, Upserted
from search_svc.postgres.predicates import Parameters, Predicate
from search_svc.postgres.tables import CONTENT, CONTENT_TYPES, items_table, vector_type, vectors_table


async def upsert(connection: asyncpg.Connection, collection: Collection, items: Sequence[Item]) -> list[Upserted]:
    """Writes items in the transaction of the caller.

    Rows are locked in the order of their ids, so that two calls with the same items wait for one another and never
    stand in each other's way.
    """
    ordered = sorted(items, key=lambda item: item.id.encode())
    now, created, changed = await _write_content(connection, collection.key, ordered)
    keys = {
        row["id"]: row["key"]
        for row in await connection.fetch(
            f"SELECT id, key FROM {items_table(collection.key)} WHERE id = ANY($1::text[])",
            [item.id for item in ordered],
        )
    }
    touched: set[int] = set()
    for position, named in enumerate(collection.definition.spaces):
        touched |= await _write_vectors(connection, vectors_table(collection.key, position), named, ordered, keys)
    touched -= {keys[item_id] for item_id in created | changed}
    if touched:
        await connection.execute(
            f"UPDATE {items_table(collection.key)} SET update_time = $1 WHERE key = ANY($2::bigint[])",
            now,
            sorted(touched),
        )
    updated = changed | {item.id for item in ordered if keys[item.id] in touched}
    unchanged = [item.id for item in ordered if item.id not in created and item.id not in updated]
    times = await _update_times(connection, collection.key, unchanged)
    results = []
    for item in items:
        if item.id in times:
            results.append(Upserted(item.id, Outcome.UNCHANGED, times[item.id]))
        else:
            results.append(Upserted(item.id, Outcome.CREATED if item.id in created else Outcome.UPDATED, now))
    return results


async def _write_content(
    connection: asyncpg.Connection, key: str, items: Sequence[Item]
) -> tuple[datetime, set[str], set[str]]:
    """Everything but vectors. Returns the time of writing, the ids that are new, and those whose content changed."""
    columns = ", ".join(CONTENT)
    arrays = ", ".join(f"${number}::{sql_type}[]" for number, sql_type in enumerate(("text", *CONTENT_TYPES), start=1))
    rows = await connection.fetch(
        f"""
        INSERT INTO {items_table(key)} AS old (id, {columns}, create_time, update_time)
        SELECT new.*, now(), now() FROM unnest({arrays}) AS new
        ON CONFLICT (id) DO UPDATE
            SET {", ".join(f"{column} = excluded.{column}" for column in CONTENT)}, update_time = excluded.update_time
            WHERE ({", ".join(f"old.{column}" for column in CONTENT)})
                IS DISTINCT FROM ({", ".join(f"excluded.{column}" for column in CONTENT)})
        RETURNING id, xmax = 0 AS created
        """,  # xmax is 0 in a row that nobody has replaced or locked yet: in one that is new.
        *([item.id for item in items], *_content(items)),
    )
    now: datetime = await connection.fetchval("SELECT now()")
    created = {row["id"] for row in rows if row["created"]}
    return now, created, {row["id"] for row in rows} - created


def _content(items: Sequence[Item]) -> list[list[Any]]:
    captions = [item.caption for item in items]
    return [
        [item.metadata for item in items],
        [caption and caption.text for caption in captions],
        [caption and caption.confidence for caption in captions],
        [caption and caption.token_count for caption in captions],
        [caption and caption.truncated for caption in captions],
        [caption and caption.model for caption in captions],
        [item.image_uri for item in items],
        [item.content_digest for item in items],
    ]


async def _write_vectors(
    connection: asyncpg.Connection, table: str, named: NamedSpace, items: Sequence[Item], keys: dict[str, int]
) -> set[int]:
    """One space's vectors of the items; returns the keys whose vector came, went or changed by more than rounding."""
    present = [(keys[item.id], item.vectors[named.name]) for item in items if named.name in item.vectors]
    absent = [keys[item.id] for item in items if named.name not in item.vectors]
    touched: set[int] = set()
    if absent:
        gone = await connection.fetch(f"DELETE FROM {table} WHERE key = ANY($1::bigint[]) RETURNING key", absent)
        touched |= {row["key"] for row in gone}
    if present:
        norm = "l2_norm" if named.stored_as is StoredAs.FLOAT16 else "vector_norm"
        written = await connection.fetch(
            f"""
            INSERT INTO {table} AS old (key, vector)
            SELECT * FROM unnest($1::bigint[], $2::{vector_type(named)}[])
            ON CONFLICT (key) DO UPDATE SET vector = excluded.vector
                WHERE l2_distance(old.vector, excluded.vector) > {ROUNDING} * {norm}(excluded.vector)
            RETURNING key
            """,
            [key for key, _ in present],
            [to_database(numbers, named) for _, numbers in present],
        )
        touched |= {row["key"] for row in written}
    return touched


async def _update_times(connection: asyncpg.Connection, key: str, ids: Sequence[str]) -> dict[str, datetime]:
    if not ids:
        return {}
    rows = await connection.fetch(f"SELECT id, update_time FROM {items_table(key)} WHERE id = ANY($1::text[])", ids)
    return {row["id"]: row["update_time"] for row in rows}


def to_database(numbers: Numbers, named: NamedSpace) -> HalfVector | Vector:
    """A vector as pgvector's codec takes it."""
    return HalfVector(numbers) if named.stored_as is StoredAs.FLOAT16 else Vector(numbers)


async def delete_ids(connection: asyncpg.Connection, collection: Collection, ids: Sequence[str]) -> int:
    """Removes items by id."""
    return await _delete(connection, collection.key, "i.id = ANY($1::text[])", [list(ids)])


async def delete_matching(connection: asyncpg.Connection, collection: Collection, tree: Filter) -> int:
    """Removes the items that a filter chooses."""
    parameters = Parameters()
    condition = Predicate(collection.definition, parameters).sql(tree)
    return await _delete(connection, collection.key, condition, parameters.values)


async def _delete(connection: asyncpg.Connection, key: str, condition: str, values: Sequence[object]) -> int:
    # Locked in the order that writers lock in; the vectors go with their items by foreign key.
    status = await connection.execute(
        f"""
        WITH chosen AS MATERIALIZED (
            SELECT i.key FROM {items_table(key)} AS i WHERE {condition} ORDER BY i.id FOR UPDATE
        )
        DELETE FROM {items_table(key)} AS gone USING chosen WHERE gone.key = chosen.key
        """,
        *values,
    )
    return int(status.removeprefix("DELETE "))
