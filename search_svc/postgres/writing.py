"""Writing of items: a fixed number of statements, however many items."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg

from search_svc.filters import Filter
from search_svc.metadata import MetadataLimits, check_merged
from search_svc.model import Change, Collection, Item, ItemOutcome, Upserted
from search_svc.postgres.faults import collision
from search_svc.postgres.predicates import Parameters, Predicate
from search_svc.postgres.tables import CONTENT, CONTENT_TYPES, items_table, members_table, vectors_table
from search_svc.postgres.vectors import remove_unused, write_vectors


async def upsert(
    connection: asyncpg.Connection, collection: Collection, items: Sequence[Item], merge: MetadataLimits | None
) -> list[Upserted]:
    """Write items in the caller's transaction.

    Rows are locked in the order of their ids. So two calls with the same items wait for one another and never stand in
    each other's way.
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
        touched |= await write_vectors(connection, collection.key, position, named, ordered, keys)
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
            results.append(Upserted(item.id, ItemOutcome.CREATED, now))
            continue
        changes = tuple(
            change
            for change in Change
            if (keys[item.id] in touched if change is Change.VECTORS else row is not None and row[change.value])
        )
        if row is None and not changes:
            results.append(Upserted(item.id, ItemOutcome.UNCHANGED, times[item.id]))
        else:
            results.append(Upserted(item.id, ItemOutcome.UPDATED, now, changes))
    return results


async def _write_content(
    connection: asyncpg.Connection, key: str, items: Sequence[Item], *, merge: bool
) -> tuple[datetime, dict[str, asyncpg.Record]]:
    """Write everything but vectors.

    Return the time of writing, and by id what happened to the items that were written.
    """
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
    """Return the metadata, by item id, that may exceed the limits: PostgreSQL's text is never shorter than ours."""
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


async def delete_ids(connection: asyncpg.Connection, collection: Collection, ids: Sequence[str]) -> int:
    """Remove items by id. Return how many there were."""
    return await _delete(connection, collection, "i.id = ANY($1::text[])", [list(ids)])


async def delete_matching(connection: asyncpg.Connection, collection: Collection, tree: Filter) -> int:
    """Remove the items that a filter chooses. Return how many there were."""
    parameters = Parameters()
    condition = Predicate(collection.definition, parameters).sql(tree)
    return await _delete(connection, collection, condition, parameters.values)


async def _delete(
    connection: asyncpg.Connection, collection: Collection, condition: str, values: Sequence[object]
) -> int:
    items = items_table(collection.key)
    spaces = range(len(collection.definition.spaces))
    members = [members_table(collection.key, position) for position in spaces]
    leaving = "".join(
        f""", m{position} AS (
            DELETE FROM {members[position]} AS m USING chosen WHERE m.key = chosen.key RETURNING m.vector
        )"""
        for position in spaces
    )
    freed = "".join(f", (SELECT array_agg(DISTINCT vector) FROM m{position}) AS m{position}" for position in spaces)
    # Locked in the order that writers lock in.
    row = await connection.fetchrow(
        f"""
        WITH chosen AS MATERIALIZED (
            SELECT i.key FROM {items} AS i WHERE {condition} ORDER BY i.id FOR UPDATE
        ){leaving}, gone AS (
            DELETE FROM {items} AS gone USING chosen WHERE gone.key = chosen.key RETURNING 1
        )
        SELECT (SELECT count(*) FROM gone) AS count{freed}
        """,
        *values,
    )
    for position in spaces:
        vectors = vectors_table(collection.key, position)
        await remove_unused(connection, vectors, members[position], row[f"m{position}"] or [])
    count: int = row["count"]
    return count
