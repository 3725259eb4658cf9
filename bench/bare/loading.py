"""Rows copied into a table of pgvector, and the index built over them: what a store cannot do without."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

import asyncpg
from pgvector import HalfVector
from pgvector.asyncpg import register_vector

from bench.stores import Vectors

TABLE = "bench_bare"
# As SearchService makes them, unless told otherwise.
INDEX = f"CREATE INDEX ON {TABLE} USING hnsw (vector halfvec_cosine_ops) WITH (m = 16, ef_construction = 128)"
# The graph has to fit, or building it takes many times as long.
MEMORY = "512MB"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The seconds that it took."""

    copy_s: float
    build_s: float


async def load(uri: str, vectors: Vectors) -> Loaded:
    """Copy the vectors with ids and metadata into a new table, build the index, and remove both."""
    connection = await asyncpg.connect(uri)
    try:
        await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        await register_vector(connection)
        await connection.execute(f"DROP TABLE IF EXISTS {TABLE}")
        await connection.execute(
            f"CREATE TABLE {TABLE} (id text PRIMARY KEY, metadata jsonb, vector halfvec({vectors.shape[1]}))"
        )
        rows = [(f"{place:08}", _metadata(place), HalfVector(vector)) for place, vector in enumerate(vectors)]
        began = time.monotonic()
        await connection.copy_records_to_table(TABLE, records=rows, columns=("id", "metadata", "vector"))
        copied = time.monotonic()
        await connection.execute(f"SET maintenance_work_mem = '{MEMORY}'")
        await connection.execute(INDEX)
        built = time.monotonic()
        await connection.execute(f"DROP TABLE {TABLE}")
    finally:
        await connection.close()
    return Loaded(copied - began, built - copied)


def _metadata(place: int) -> str:
    return json.dumps({"group": f"g{place % 100}", "file": f"/images/{place}.jpg", "iso": 100})
