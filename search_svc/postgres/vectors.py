"""Vectors of items: each distinct vector is a row, which all items that have it share."""

from collections.abc import Collection, Sequence
from typing import Any

import asyncpg
from pgvector import HalfVector, Vector

from search_svc.model import ROUNDING, Item, NamedSpace, Numbers, StoredAs
from search_svc.postgres.faults import collision
from search_svc.postgres.tables import digest_of, members_table, vector_type, vectors_table


async def write_vectors(
    connection: asyncpg.Connection,
    key: str,
    position: int,
    named: NamedSpace,
    items: Sequence[Item],
    keys: dict[str, int],
) -> set[int]:
    """Write one space's vectors of the items.

    Return the keys whose vector came, went or changed by more than rounding.
    """
    members = members_table(key, position)
    present = [
        (keys[item.id], to_database(item.vectors[named.name], named)) for item in items if named.name in item.vectors
    ]
    absent = [keys[item.id] for item in items if named.name not in item.vectors]
    touched: set[int] = set()
    freed: set[int] = set()
    if absent:
        gone = await connection.fetch(
            f"DELETE FROM {members} WHERE key = ANY($1::bigint[]) RETURNING key, vector", absent
        )
        touched |= {row["key"] for row in gone}
        freed |= {row["vector"] for row in gone}
    if present:
        norm = "l2_norm" if named.stored_as is StoredAs.FLOAT16 else "vector_norm"
        changed = await connection.fetch(
            f"""
            SELECT new.place, m.vector AS old
            FROM unnest($1::bigint[], $2::{vector_type(named)}[]) WITH ORDINALITY AS new(key, vector, place)
            LEFT JOIN {members} AS m ON m.key = new.key
            LEFT JOIN {vectors_table(key, position)} AS v ON v.key = m.vector
            WHERE v.key IS NULL OR l2_distance(v.vector, new.vector) > {ROUNDING} * {norm}(new.vector)
            """,
            [item_key for item_key, _ in present],
            [vector for _, vector in present],
        )
        if changed:
            await _give_vectors(connection, key, position, named, [present[row["place"] - 1] for row in changed])
        touched |= {present[row["place"] - 1][0] for row in changed}
        freed |= {row["old"] for row in changed if row["old"] is not None}
    await remove_unused(connection, vectors_table(key, position), members, freed)
    return touched


async def _give_vectors(
    connection: asyncpg.Connection, key: str, position: int, named: NamedSpace, pairs: Sequence[tuple[int, Any]]
) -> None:
    """Insert vectors that are not there yet, and assign them to the items."""
    vectors = vectors_table(key, position)
    # In one order, so that two writers of the same vectors wait for one another and never stand in each other's way.
    pairs = sorted(pairs, key=lambda pair: pair[1].to_numpy().tobytes())
    numbers = [vector for _, vector in pairs]
    await connection.execute(
        f"""
        INSERT INTO {vectors} (vector) SELECT new.vector FROM unnest($1::{vector_type(named)}[]) AS new(vector)
        ON CONFLICT ({digest_of("vector", named)}) DO NOTHING
        """,
        numbers,
    )
    status = await connection.execute(
        f"""
        INSERT INTO {members_table(key, position)} (key, vector)
        SELECT key, found FROM (
            SELECT new.key, (
                SELECT v.key FROM {vectors} AS v
                WHERE {digest_of("v.vector", named)} = {digest_of("new.vector", named)}
            ) AS found
            FROM unnest($1::bigint[], $2::{vector_type(named)}[]) AS new(key, vector)
        ) AS pairs WHERE found IS NOT NULL
        ON CONFLICT (key) DO UPDATE SET vector = excluded.vector
        """,
        [item_key for item_key, _ in pairs],
        numbers,
    )
    if int(status.split()[-1]) != len(pairs):
        # One was there, and another writer removed it before it could be taken.
        raise collision()


async def remove_unused(connection: asyncpg.Connection, vectors: str, members: str, freed: Collection[int]) -> None:
    """Remove those of the vectors that no item has any more. One that another item gets meanwhile is a collision."""
    if freed:
        await connection.execute(
            f"""
            DELETE FROM {vectors} AS v
            WHERE v.key = ANY($1::bigint[]) AND NOT EXISTS (SELECT FROM {members} AS m WHERE m.vector = v.key)
            """,
            sorted(freed),
        )


def to_database(numbers: Numbers, named: NamedSpace) -> HalfVector | Vector:
    """Return a vector as pgvector's codec takes it."""
    return HalfVector(numbers) if named.stored_as is StoredAs.FLOAT16 else Vector(numbers)
