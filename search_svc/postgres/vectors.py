"""Vectors of items: each distinct vector is a row, which all items that have it share."""

import hashlib
from collections.abc import Collection, Sequence
from typing import Any

import asyncpg
import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector, Vector

from search_svc.model import ROUNDING, NamedSpace, Numbers, StoredAs
from search_svc.postgres.faults import collision
from search_svc.postgres.tables import digest_of, members_table, vector_type, vectors_table


async def write_vectors(
    connection: asyncpg.Connection,
    key: str,
    position: int,
    named: NamedSpace,
    wanted: Sequence[tuple[int, Numbers | None]],
) -> set[int]:
    """Write one space's vectors, each under its item's key; None removes what is there.

    Return the keys whose vector came, went or changed by more than rounding.
    """
    vectors, members = vectors_table(key, position), members_table(key, position)
    present = [(item_key, to_database(numbers, named)) for item_key, numbers in wanted if numbers is not None]
    absent = [item_key for item_key, numbers in wanted if numbers is None]
    norm = "l2_norm" if named.stored_as is StoredAs.FLOAT16 else "vector_norm"
    # Tables are asked row by row, in subqueries: whatever the planner believes of a table that grows fast, these use
    # its indexes. Vectors are made in one order, so that two writers of the same ones wait for one another and never
    # stand in each other's way. Digests come from here, and keys from the sequence beforehand, since PostgreSQL takes
    # ten times as long for a digest.
    rows = await connection.fetch(
        f"""
        WITH asked AS MATERIALIZED (
            SELECT new.*, (SELECT m.vector FROM {members} AS m WHERE m.key = new.key) AS old
            FROM unnest($1::bigint[], $2::{vector_type(named)}[], $3::bytea[]) AS new(key, vector, digest)
        ), changed AS MATERIALIZED (
            SELECT *, (SELECT v.key FROM {vectors} AS v WHERE {digest_of("v.vector", named)} = digest) AS found
            FROM asked WHERE coalesce((
                SELECT l2_distance(v.vector, asked.vector) > {ROUNDING} * {norm}(asked.vector)
                FROM {vectors} AS v WHERE v.key = asked.old
            ), true)
        ), fresh AS MATERIALIZED (
            SELECT nextval((SELECT pg_get_serial_sequence('{vectors}', 'key')::regclass)) AS key, digest, vector
            FROM (SELECT DISTINCT ON (digest) digest, vector FROM changed WHERE found IS NULL ORDER BY digest) AS each
        ), added AS (
            INSERT INTO {vectors} (key, vector) OVERRIDING SYSTEM VALUE SELECT key, vector FROM fresh
            ON CONFLICT ({digest_of("vector", named)}) DO NOTHING RETURNING key
        ), given AS (
            INSERT INTO {members} (key, vector)
            SELECT c.key, coalesce(c.found, fresh.key) FROM changed AS c LEFT JOIN fresh USING (digest)
            WHERE c.found IS NOT NULL OR fresh.key IN (SELECT key FROM added)
            ON CONFLICT (key) DO UPDATE SET vector = excluded.vector
            RETURNING key
        ), gone AS (
            DELETE FROM {members} WHERE key = ANY($4::bigint[]) RETURNING key, vector
        )
        SELECT c.key, c.old, given.key IS NULL AS missed FROM changed AS c LEFT JOIN given USING (key)
        UNION ALL SELECT key, vector, false FROM gone
        """,
        [item_key for item_key, _ in present],
        [vector for _, vector in present],
        [hashlib.sha256(vector.to_binary()).digest() for _, vector in present],
        absent,
    )
    if missed := {row["key"] for row in rows if row["missed"]}:
        await _take(connection, key, position, named, [pair for pair in present if pair[0] in missed])
    await remove_unused(connection, vectors, members, {row["old"] for row in rows} - {None})
    return {row["key"] for row in rows}


async def _take(
    connection: asyncpg.Connection, key: str, position: int, named: NamedSpace, pairs: Sequence[tuple[int, Any]]
) -> None:
    """Give items vectors that another writer made meanwhile."""
    status = await connection.execute(
        f"""
        INSERT INTO {members_table(key, position)} (key, vector)
        SELECT key, found FROM (
            SELECT new.key, (
                SELECT v.key FROM {vectors_table(key, position)} AS v
                WHERE {digest_of("v.vector", named)} = {digest_of("new.vector", named)}
            ) AS found
            FROM unnest($1::bigint[], $2::{vector_type(named)}[]) AS new(key, vector)
        ) AS pairs WHERE found IS NOT NULL
        ON CONFLICT (key) DO UPDATE SET vector = excluded.vector
        """,
        [item_key for item_key, _ in pairs],
        [vector for _, vector in pairs],
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


def from_sent(contents: Sequence[bytes], named: NamedSpace) -> NDArray[np.float32]:
    """Return vectors that came as bytes, one a row: of many that is quicker than by pgvector's codec."""
    if not contents:
        return np.empty((0, named.space.dimension), dtype=np.float32)
    numbers = np.frombuffer(b"".join(contents), dtype=">f2" if named.stored_as is StoredAs.FLOAT16 else ">f4")
    # Before each stand how many numbers it has and zeros, two bytes of both.
    before = 4 // numbers.itemsize
    return numbers.reshape(len(contents), -1)[:, before:].astype(np.float32)
