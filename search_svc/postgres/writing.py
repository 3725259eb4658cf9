"""Writing of items: a fixed number of statements, however many items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import asyncpg

from search_svc.filters import Filter
from search_svc.jobs.store import LeasedWrite
from search_svc.metadata import MetadataLimits, check_merged, merged
from search_svc.model import Change, Collection, Definition, DeletedBatch, Item, ItemOutcome, Upserted
from search_svc.postgres import jobs, leases
from search_svc.postgres.faults import collision
from search_svc.postgres.features import write_features
from search_svc.postgres.predicates import Parameters, Predicate
from search_svc.postgres.sketches import Sketches, sketch_columns
from search_svc.postgres.tables import CONTENT, CONTENT_TYPES, items_table, members_table, vectors_table
from search_svc.postgres.vectors import remove_unused, write_vectors
from search_svc.postgres.words import vector_texts
from search_svc.threads import Threads

_COLUMNS = ", ".join(CONTENT)
# Cutting a character of text into words takes as long as a thread's translation of so many bytes.
_WORDS_COST = 16
_CAPTION = tuple(column for column in CONTENT if column.startswith("caption_"))
# What the statement that writes items tells of them.
_CHANGES = (Change.CONTENT, Change.CAPTION, Change.METADATA, Change.IMAGE_URI)


@dataclass(slots=True)
class _Row:
    """An item's row, locked by this transaction, and what became of it so far."""

    key: int
    update_time: datetime
    metadata: str | None = None
    """Metadata as it was, where it is merged and its words are kept."""
    created: bool = False
    written: bool = False
    changes: set[Change] = field(default_factory=set)

    def result(self, item_id: str) -> Upserted:
        if self.created:
            return Upserted(item_id, ItemOutcome.CREATED, self.update_time)
        outcome = ItemOutcome.UPDATED if self.written else ItemOutcome.UNCHANGED
        return Upserted(item_id, outcome, self.update_time, tuple(each for each in Change if each in self.changes))


async def upsert(
    connection: asyncpg.Connection,
    collection: Collection,
    items: Sequence[Item],
    merge: MetadataLimits | None,
    *,
    words: Mapping[str, str],
    sketches: Sketches,
    threads: Threads,
) -> list[Upserted]:
    """Write items in the caller's transaction. `words` are theirs, by id, as long as no metadata is merged.

    So are `sketches`.

    Rows are locked in the order of their ids. So two calls with the same items wait for one another and never stand in
    each other's way.
    """
    ordered = sorted(items, key=lambda item: item.id.encode())
    # What is there is locked first. The statements that write then see these rows as they stay until they are written:
    # what they say of their own changes is exact.
    merges_words = merge is not None and bool(collection.definition.text_indexes)
    rows = await _lock(connection, collection.key, [item.id for item in ordered], with_metadata=merges_words)
    there = [item for item in ordered if item.id in rows]
    if new := [item for item in ordered if item.id not in rows]:
        rows |= await _insert(connection, collection, new, words, sketches)
    if there:
        if merges_words:
            complete = [replace(item, metadata=merged(rows[item.id].metadata or "{}", item.metadata)) for item in there]
            words = await words_by_id(complete, collection.definition, threads)
        texts = await _update(connection, collection, there, words, sketches, rows, merge)
        if merge is not None:
            check_merged({place: texts[item.id] for place, item in enumerate(items) if item.id in texts}, merge)
    await _write_vectors(connection, collection, ordered, rows)
    if collection.definition.local_features:
        features = [(rows[item.id].key, item.local_features) for item in ordered]
        _note(await write_features(connection, collection.key, features), Change.LOCAL_FEATURES, rows)
    await _touch(connection, collection, ordered, sketches, rows)
    return [rows[item.id].result(item.id) for item in items]


async def words_by_id(items: Sequence[Item], definition: Definition, threads: Threads) -> dict[str, str]:
    """Return the words of items as the table takes them."""
    size = sum(len(item.caption.text) for item in items if item.caption)
    if definition.text_indexes:
        size += sum(len(item.metadata) for item in items)
    texts = await threads.run(lambda: vector_texts(items, definition), _WORDS_COST * size)
    return {item.id: text for item, text in zip(items, texts, strict=True)}


async def _lock(
    connection: asyncpg.Connection, key: str, ids: Sequence[str], *, with_metadata: bool
) -> dict[str, _Row]:
    """Lock the items that are there, in the order of their ids. Return them by id."""
    metadata = "metadata" if with_metadata else "NULL"
    found = await connection.fetch(
        f"SELECT id, key, update_time, {metadata} AS metadata FROM {items_table(key)}"
        " WHERE id = ANY($1::text[]) ORDER BY id FOR NO KEY UPDATE",
        ids,
    )
    return {row["id"]: _Row(row["key"], row["update_time"], row["metadata"]) for row in found}


async def _insert(
    connection: asyncpg.Connection,
    collection: Collection,
    items: Sequence[Item],
    words: Mapping[str, str],
    sketches: Sketches,
) -> dict[str, _Row]:
    """Write everything but vectors of items that are new. Return their rows by id."""
    columns = ", ".join((_COLUMNS, "words", *sketch_columns(collection.definition)))
    made = await connection.fetch(
        f"""
        INSERT INTO {items_table(collection.key)} (id, {columns}, create_time, update_time)
        SELECT new.*, now(), now() FROM unnest({_arrays("text", collection.definition)}) AS new
        ON CONFLICT (id) DO NOTHING RETURNING id, key, update_time
        """,
        [item.id for item in items],
        *_content(items),
        [words[item.id] for item in items],
        *_by_column(items, sketches, collection.definition),
    )
    if len(made) < len(items):
        # Made by another after these rows were locked: once more, with theirs locked too.
        raise collision()
    return {row["id"]: _Row(row["key"], row["update_time"], created=True) for row in made}


async def _update(
    connection: asyncpg.Connection,
    collection: Collection,
    items: Sequence[Item],
    words: Mapping[str, str],
    sketches: Sketches,
    rows: dict[str, _Row],
    merge: MetadataLimits | None,
) -> dict[str, str]:
    """Write everything but vectors of items that are there, where it differs, and note in `rows` what changed.

    Return the merged metadata, by item id, that may exceed the limits: PostgreSQL's text is never shorter than ours.
    """
    table = items_table(collection.key)
    derived = ("words", *sketch_columns(collection.definition))
    # Keys at the top level: what is new replaces what is stored under the same key.
    values = {column: f"new.{column}" for column in CONTENT} | (
        {"metadata": "old.metadata || new.metadata"} if merge is not None else {}
    )
    stored = ", ".join(f"old.{column}" for column in CONTENT)
    written = await connection.fetch(
        f"""
        WITH written AS (
            UPDATE {table} AS old
                SET {", ".join(f"{column} = {value}" for column, value in values.items())},
                    {", ".join(f"{column} = new.{column}" for column in derived)}, update_time = now()
                FROM unnest({_arrays("bigint", collection.definition)}) AS new(key, {_COLUMNS}, {", ".join(derived)})
                WHERE old.key = new.key
                    AND ({stored}) IS DISTINCT FROM ({", ".join(values.values())})
            RETURNING old.key, old.id, {stored}, old.update_time
        )
        SELECT w.id, w.update_time,
            w.content_digest IS DISTINCT FROM before.content_digest AS content,
            ({", ".join(f"w.{column}" for column in _CAPTION)})
                IS DISTINCT FROM ({", ".join(f"before.{column}" for column in _CAPTION)}) AS caption,
            w.metadata IS DISTINCT FROM before.metadata AS metadata,
            w.image_uri IS DISTINCT FROM before.image_uri AS image_uri,
            CASE WHEN {_may_exceed("w.metadata", merge)} THEN w.metadata END AS merged
        FROM written AS w JOIN {table} AS before ON before.key = w.key
        """,
        [rows[item.id].key for item in items],
        *_content(items),
        [words[item.id] for item in items],
        *_by_column(items, sketches, collection.definition),
    )
    for changed in written:
        row = rows[changed["id"]]
        row.written, row.update_time = True, changed["update_time"]
        row.changes |= {change for change in _CHANGES if changed[change.value]}
    return {changed["id"]: changed["merged"] for changed in written if changed["merged"] is not None}


async def _write_vectors(
    connection: asyncpg.Connection, collection: Collection, items: Sequence[Item], rows: dict[str, _Row]
) -> None:
    """Write the vectors of all spaces, and note in `rows` where they changed."""
    for position, named in enumerate(collection.definition.spaces):
        vectors = [(rows[item.id].key, item.vectors.get(named.name)) for item in items]
        _note(await write_vectors(connection, collection.key, position, named, vectors), Change.VECTORS, rows)


def _note(touched: set[int], change: Change, rows: dict[str, _Row]) -> None:
    """Note a change of the items with these keys, as far as they were there before."""
    for row in rows.values():
        if row.key in touched and not row.created:
            row.changes.add(change)


async def _touch(
    connection: asyncpg.Connection,
    collection: Collection,
    items: Sequence[Item],
    sketches: Sketches,
    rows: dict[str, _Row],
) -> None:
    """Tell the time of those items of which nothing changed but what lies in other tables, and their new sketches."""
    late = [item for item in items if rows[item.id].changes and not rows[item.id].written]
    if late:
        columns = sketch_columns(collection.definition)
        arrays = ("$1::bigint[]", *(f"${number}::varbit[]" for number, _ in enumerate(columns, start=2)))
        now: datetime = await connection.fetchval(
            f"""
            WITH written AS (
                UPDATE {items_table(collection.key)} AS old
                SET {", ".join((*(f"{column} = new.{column}" for column in columns), "update_time = now()"))}
                FROM unnest({", ".join(arrays)}) AS new({", ".join(("key", *columns))}) WHERE old.key = new.key
            ) SELECT now()
            """,
            [rows[item.id].key for item in late],
            *_by_column(late, sketches, collection.definition),
        )
        for item in late:
            row = rows[item.id]
            row.written, row.update_time = True, now


def _by_column(items: Sequence[Item], sketches: Sketches, definition: Definition) -> list[list[Any]]:
    """Return the sketches of items as the columns of a table."""
    return [[sketches[item.id][place] for item in items] for place, _ in enumerate(sketch_columns(definition))]


def _arrays(first: str, definition: Definition) -> str:
    """Return the parameters of `unnest`: what rows are known by, their content, their words and their sketches."""
    derived = ("text[]::tsvector[]", *("varbit[]" for _ in sketch_columns(definition)))
    types = (*(f"{sql_type}[]" for sql_type in (first, *CONTENT_TYPES)), *derived)
    return ", ".join(f"${number}::{sql_type}" for number, sql_type in enumerate(types, start=1))


def _may_exceed(metadata: str, limits: MetadataLimits | None) -> str:
    """Return the condition under which merged metadata has to be looked at."""
    if limits is None:
        return "false"
    return (
        f"octet_length({metadata}::text) > {int(limits.max_bytes)} OR jsonb_path_exists({metadata},"
        f""" 'strict $.**{{{int(limits.max_depth)} to last}} ? (@.type() == "object" || @.type() == "array")')"""
    )


def _content(items: Sequence[Item]) -> list[list[Any]]:
    captions = [item.caption for item in items]
    hashes = [item.perceptual_hash for item in items]
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
        [each.hash + each.unframed if each else b"" for each in hashes],
        [each.quality if each else 0 for each in hashes],
    ]


async def delete_ids(connection: asyncpg.Connection, collection: Collection, ids: Sequence[str]) -> int:
    """Remove items by id. Return how many there were."""
    return (await _delete(connection, collection, "i.id = ANY($1::text[])", [list(ids)])).count


async def delete_matching(connection: asyncpg.Connection, collection: Collection, tree: Filter) -> int:
    """Remove the items that a filter chooses. Return how many there were."""
    parameters = Parameters()
    condition = Predicate(collection.definition, parameters).sql(tree)
    return (await _delete(connection, collection, condition, parameters.values)).count


async def delete_batch(
    connection: asyncpg.Connection, collection: Collection, tree: Filter, *, after: str, count: int, within: LeasedWrite
) -> DeletedBatch:
    """Remove up to `count` of the items that a filter chooses, behind the id `after`, as a step of a job."""
    await leases.hold(connection, within.lease)
    parameters = Parameters()
    behind, limit = parameters.add(after, "text"), parameters.add(count, "bigint")
    condition = f"i.id > {behind} AND ({Predicate(collection.definition, parameters).sql(tree)})"
    gone = await _delete(connection, collection, condition, parameters.values, limit)
    batch = DeletedBatch(gone.count, gone.last if gone.count == count else None)
    await jobs.save(connection, within.lease, within.progress(batch))
    return batch


@dataclass(frozen=True)
class _Gone:
    """Items that were removed: how many, and the last of their ids in byte order."""

    count: int
    last: str | None


async def _delete(
    connection: asyncpg.Connection,
    collection: Collection,
    condition: str,
    values: Sequence[object],
    limit: str = "ALL",
) -> _Gone:
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
            SELECT i.key, i.id FROM {items} AS i WHERE {condition} ORDER BY i.id LIMIT {limit} FOR UPDATE
        ){leaving}, gone AS (
            DELETE FROM {items} AS gone USING chosen WHERE gone.key = chosen.key RETURNING 1
        )
        SELECT (SELECT count(*) FROM gone) AS count, (SELECT max(id) FROM chosen) AS last{freed}
        """,
        *values,
    )
    for position in spaces:
        vectors = vectors_table(collection.key, position)
        await remove_unused(connection, vectors, members[position], row[f"m{position}"] or [])
    return _Gone(row["count"], row["last"])
