"""Filling a collection, building its index, and what both take of the disk."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
from rich.console import Console

from bench.store.drawn import Truth, items, pieces
from encoder_svc.models.mock import DIMENSIONS, MockModel
from lensmesh_cli.progress import ShareBar
from search_svc.model import (
    Collection,
    Deferred,
    Definition,
    FieldIndex,
    FieldType,
    Hnsw,
    NamedSpace,
    StoredAs,
    VectorSpace,
)
from search_svc.store import Store

BATCH = 500
PATIENCE_S = 600.0
_LOOK_S = 1.0


@dataclass(frozen=True)
class Filled:
    """A collection that is ready, and what it took."""

    collection: Collection
    rates: Sequence[float]
    """Items a second of each batch; none where the collection was there."""
    build_s: float

    def told(self) -> str:
        """Format the figures."""
        if not self.rates:
            return "taken as it was there"
        low, mid, high = min(self.rates), statistics.median(self.rates), max(self.rates)
        return (
            f"items/s of batches of {BATCH} {low:,.0f} / {mid:,.0f} / {high:,.0f}; index built in {self.build_s:,.1f} s"
        )


def definition(name: str, dimension: int, *, deferred: bool) -> Definition:
    """Define the space of a mock Encoder, which can search there, with the default index, and two indexed fields."""
    facts = MockModel(next(name for name, numbers in DIMENSIONS.items() if numbers == dimension)).facts
    served = facts.spaces[0]
    space = VectorSpace(served.id, served.model, served.weights_digest, dimension, True, ())
    hnsw = Hnsw(deferred=Deferred() if deferred else None)
    fields = tuple(FieldIndex((field,), FieldType.KEYWORD) for field in ("group", "series"))
    return Definition(name, (NamedSpace("image", space, StoredAs.FLOAT16, hnsw),), fields)


async def fill(store: Store, wanted: Definition, size: int, truth: Truth, *, console: Console) -> Filled:
    """Make the collection with so many items and its index, unless all of it is there. `truth` sees every vector."""
    made = await store.create_collection(wanted, timeout_s=PATIENCE_S)
    there = made.item_count == size
    dimension = wanted.spaces[0].space.dimension
    rates: list[float] = []
    with ShareBar(console, f"{size:,} items") as bar:
        for begin, vectors in pieces(size, dimension):
            # Beside the event loop: a store that finds that its process stood still takes no writes.
            await asyncio.to_thread(truth.see, vectors, begin)
            for offset in range(0, 0 if there else len(vectors), BATCH):
                batch = items(vectors[offset : offset + BATCH], begin + offset)
                started = time.perf_counter()
                await store.upsert(made.collection, batch, timeout_s=PATIENCE_S)
                rates.append(len(batch) / (time.perf_counter() - started))
            bar.set((begin + len(vectors)) / size)
    started = time.perf_counter()
    await store.build_indexes(made.collection, timeout_s=PATIENCE_S)
    with ShareBar(console, f"index of {size:,} items") as bar:
        while left := (await store.count_items(made.collection, timeout_s=PATIENCE_S)).indexes:
            bar.set(min(status.progress for status in left.values()))
            # Looks after a build that failed as well.
            await store.build_indexes(made.collection, timeout_s=PATIENCE_S)
            await asyncio.sleep(_LOOK_S)
    build_s = time.perf_counter() - started
    collection = await store.find_collection(wanted.name, fresh=True, timeout_s=PATIENCE_S)
    return Filled(collection, rates, build_s)


async def disk(uri: str, collection: Collection) -> str:
    """Return what a collection takes on PostgreSQL's disk, for people."""
    connection = await asyncpg.connect(uri)
    try:
        # A new table is planned as if nothing was known of it, until its first statistics.
        await connection.execute("VACUUM ANALYZE")
        rows = await connection.fetch(
            "SELECT relname, pg_table_size(oid) AS rows, pg_indexes_size(oid) AS indexes FROM pg_class"
            " WHERE relkind = 'r' AND relname ~ $1 ORDER BY relname",
            f"^(items|vectors|members)_{collection.key}(_|$)",
        )
    finally:
        await connection.close()
    parts = (f"{row['relname'].split('_')[0]} {row['rows'] / 1e6:,.0f} + {row['indexes'] / 1e6:,.0f}" for row in rows)
    return f"MB on disk, rows + indexes: {'; '.join(parts)}"
