"""Writing items: a fixed number of statements, however many items."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
from pgvector import HalfVector, Vector

from search_svc.filters import Filter
from search_svc.metadata import MetadataLimits, check_merged
from search_svc.model import ROUNDING, Change, Collection, Item, NamedSpace, Numbers, Outcome, StoredAs, Upserted
from search_svc.postgres.faults import collision
from search_svc.postgres.predicates import Parameters, Predicate
from search_svc.postgres.tables import CONTENT, CONTENT_TYPES, items_table, vector_type, vectors_table


async def upsert(
    connection: asyncpg.Connection, collection: Collection, items: Sequence[Item], merge: MetadataLimits | None
) -> list[Upserted]:
    """Writes items in the transaction of the caller.

    Rows are locked in the order of their ids, so that two calls with the same items wait for one another and never
    stand in each other's way.
    """
    ordered = sorted(items, key=lambda item: item.id.encode())
    now, written = await _write_content(connection, collection.key, ordered, merge=merge is not None)
    if merge is not None:
        places = {item.id: place for place, item in enumerate(items)}
        texts = await _merged_texts(connection, collection.key, [*written], merge)
        check_merged({places[item_id]: text for item_id, text in texts.items()}, merge)
    rows = await connection.fetch(
        f"SELECT id, key, update_time FROM {items_table(collection.key)} WHERE id = ANY($1::text[])",
        [item.id for item in ordered],
    )
    keys = {row["id"]: row["key"] for row in rows}
    times = {row["id"]: row["update_time"] for row in rows}
    touched: set[int] = set()
    for position, named in enumerate(collection.definition.spaces):
        touched |= await _write_vectors(connection, vectors_table(collection.key, position), named, ordered, keys)
    late = touched - {keys[item_id] for item_id in written}
    if late:
        await connection.execute(
            f"UPDATE {items_table(collection.key)} SET update_time = $1 WHERE key = ANY($2::bigint[])",
            now,
            sorted(late),
        )
    results = []
    for item in items:
        row = written.get(item.id)
        if row is not None and row["created"]:
            results.append(Upserted(item.id, Outcome.CREATED, now))
            continue
        changes = tuple(
            change
            for change in Change
            if (keys[item.id] in touched if change is Change.VECTORS else row is not None and row[change.value])
        )
        if row is None and not changes:
            results.append(Upserted(item.id, Outcome.UNCHANGED, times[item.id]))
        else:
            results.append(Upserted(item.id, Outcome.UPDATED, now, changes))
    return results


async def _write_content(
    connection: asyncpg.Connection, key: str, items: Sequence[Item], *, merge: bool
) -> tuple[datetime, dict[str, asyncpg.Record]]:
    """Everything but vectors. Returns the time of writing, and by id what happened to the items that were written."""
    table = items_table(key)
    ids = [item.id for item in items]
    # The statement that writes then sees these rows as they stay until it has written them: what it says of its own
    # changes is exact.
    await connection.execute(f"SELECT FROM {table} WHERE id = ANY($1::text[]) ORDER BY id FOR NO KEY UPDATE", ids)
    columns = ", ".join(CONTENT)
    arrays = ", ".join(f"${number}::{sql_type}[]" for number, sql_type in enumerate(("text", *CONTENT_TYPES), start=1))
    # Keys at the top level: what is new replaces what is stored under the same key.
    values = {column: f"excluded.{column}" for column in CONTENT} | (
        {"metadata": "old.metadata || excluded.metadata"} if merge else {}
    )
    captions = [column for column in CONTENT if column.startswith("caption_")]
    rows = await connection.fetch(
        f"""
        WITH written AS (
            INSERT INTO {table} AS old (id, {columns}, create_time, update_time)
            SELECT new.*, now(), now() FROM unnest({arrays}) AS new
            ON CONFLICT (id) DO UPDATE
                SET {", ".join(f"{column} = {value}" for column, value in values.items())},
                    update_time = excluded.update_time
                WHERE ({", ".join(f"old.{column}" for column in CONTENT)})
                    IS DISTINCT FROM ({", ".join(values.values())})
            RETURNING key, id, {columns}, xmax = 0 AS created
        )
        SELECT w.id, w.created, before.key IS NOT NULL AS seen,
            w.content_digest IS DISTINCT FROM before.content_digest AS content,
            ({", ".join(f"w.{column}" for column in captions)})
                IS DISTINCT FROM ({", ".join(f"before.{column}" for column in captions)}) AS caption,
            w.metadata IS DISTINCT FROM before.metadata AS metadata,
            w.image_uri IS DISTINCT FROM before.image_uri AS image_uri
        FROM written AS w LEFT JOIN {table} AS before ON before.key = w.key
        """,  # xmax is 0 in a row that nobody has replaced or locked yet: in one that is new.
        ids,
        *_content(items),
    )
    if not all(row["created"] or row["seen"] for row in rows):
        # Made by another after these rows were locked: once more, with theirs locked too.
        raise collision()
    now: datetime = await connection.fetchval("SELECT now()")
    return now, {row["id"]: row for row in rows}


async def _merged_texts(
    connection: asyncpg.Connection, key: str, ids: Sequence[str], limits: MetadataLimits
) -> dict[str, str]:
    """Metadata, by item id, of those that may exceed the limits: PostgreSQL's text is never shorter than ours."""
    rows = await connection.fetch(
        f"""
        SELECT id, metadata FROM {items_table(key)} WHERE id = ANY($1::text[])
            AND (octet_length(metadata::text) > $2 OR jsonb_path_exists(metadata,
                'strict $.**{{{int(limits.max_depth)} to last}} ? (@.type() == "object" || @.type() == "array")'))
        """,
        ids,
        limits.max_bytes,
    )
    return {row["id"]: row["metadata"] for row in rows}


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
        [item.low_content for item in items],
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
