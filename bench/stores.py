"""The cost of the store: how fast items come in, how long a search takes, how many of the nearest an index finds.

    python -m bench.stores                          an embedded PostgreSQL, made for it and removed
    python -m bench.stores --store-url qdrant://... a store of your own; the collection `bench` is made and removed

Vectors are drawn in clusters, as those of images lie. Times are of the Store itself, without gRPC, one call at a time.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lensmesh_local.postgres.server import PostgresServer
from search_svc.app import make_store
from search_svc.filters import Equals, Filter
from search_svc.legs import VectorLeg
from search_svc.model import (
    Collection,
    Definition,
    FieldIndex,
    FieldType,
    Hnsw,
    Item,
    NamedSpace,
    StoredAs,
    VectorSpace,
    View,
)
from search_svc.settings import SearchSettings
from search_svc.store import Query, Store

NAME = "bench"
BATCH = 500
HITS = 10
PATIENCE_S = 600.0
Vectors = NDArray[np.float16]


def definition(dimension: int) -> Definition:
    """Define a normalized space with the default index, and one indexed field."""
    space = VectorSpace("vs1-bench", "bench", "", dimension, True, ())
    named = NamedSpace("image", space, StoredAs.FLOAT16, Hnsw())
    return Definition(NAME, (named,), (FieldIndex(("group",), FieldType.KEYWORD),))


def draw(random: np.random.Generator, count: int, dimension: int) -> Vectors:
    """Draw unit vectors around a thousand centres."""
    centres = np.random.default_rng(0).standard_normal((1_000, dimension))
    vectors = centres[random.integers(0, 1_000, count)] + 0.7 * random.standard_normal((count, dimension))
    units: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    return units


def items(vectors: Vectors, begin: int) -> list[Item]:
    """Make items with metadata such as images have."""
    return [
        Item(
            f"{begin + i:08}",
            {"image": vector},
            metadata=json.dumps({"group": f"g{(begin + i) % 100}", "file": f"/images/{begin + i}.jpg", "iso": 100}),
        )
        for i, vector in enumerate(vectors)
    ]


async def fill(store: Store, collection: Collection, vectors: Vectors, begin: int) -> list[float]:
    """Store the vectors. Return the items a second of each batch."""
    rates = []
    for offset in range(0, len(vectors), BATCH):
        batch = items(vectors[offset : offset + BATCH], begin + offset)
        start = time.perf_counter()
        await store.upsert(collection, batch, timeout_s=PATIENCE_S)
        rates.append(len(batch) / (time.perf_counter() - start))
    return rates


async def ask(
    store: Store, collection: Collection, queries: Vectors, *, exact: bool, tree: Filter | None = None
) -> tuple[list[float], list[list[str]]]:
    """Search. Return the milliseconds of each search, and the ids that it found."""
    query = Query((), tree, HITS, 0, None, exact, None, View.BASIC, max_bytes=1 << 24)
    space = collection.definition.spaces[0]
    times, found = [], []
    for vector in queries:
        start = time.perf_counter()
        hits = await store.search(collection, replace(query, legs=(VectorLeg(space, vector),)), timeout_s=PATIENCE_S)
        times.append(1000 * (time.perf_counter() - start))
        found.append([hit.item.id for hit in hits.hits])
    return times, found


def say(line: str) -> None:
    """Print at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def spread(numbers: list[float]) -> str:
    """Format the least, median and largest number."""
    return f"{min(numbers):,.1f} / {statistics.median(numbers):,.1f} / {max(numbers):,.1f}"


async def measure(store: Store, sizes: list[int], dimension: int, rounds: int, count: int) -> None:
    """Measure at each size, and print the figures."""
    await store.open()
    say(f"{store.describe()}; {dimension} numbers as float16, {count} searches of {HITS} hits, {rounds} rounds")
    await store.delete_collection(NAME, timeout_s=PATIENCE_S)
    collection = (await store.create_collection(definition(dimension), timeout_s=PATIENCE_S)).collection
    random = np.random.default_rng(1)
    there = 0
    for size in sizes:
        rates = await fill(store, collection, draw(random, size - there, dimension), there)
        say(f"{size:>7} items | items/s of batches of {BATCH}, min / median / max: {spread(rates)}")
        there = size
        queries = draw(random, count, dimension)
        _, truth = await ask(store, collection, queries, exact=True)
        for name, exact, tree in (
            ("hnsw", False, None),
            ("hnsw, 1 in 100 passes a filter", False, Equals(("group",), ("g7",))),
            ("exact", True, None),
        ):
            medians, tails = [], []
            for _ in range(rounds):
                times, found = await ask(store, collection, queries, exact=exact, tree=tree)
                medians.append(float(np.percentile(times, 50)))
                tails.append(float(np.percentile(times, 95)))
            line = f"{size:>7} items | {name}: p50 ms {spread(medians)}; p95 ms {spread(tails)}"
            if tree is None and not exact:
                shared = [len(set(one) & set(other)) / HITS for one, other in zip(found, truth, strict=True)]
                line += f"; recall@{HITS} {statistics.mean(shared):.4f}"
            say(line)
    await store.delete_collection(NAME, timeout_s=PATIENCE_S)
    await store.close()


@contextmanager
def own_postgres() -> Iterator[str]:
    """Run a PostgreSQL as `lensmesh up` starts it, durable, in a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="lensmesh-bench-")).resolve()
    try:
        server = PostgresServer(folder)
        try:
            server.start()
            yield server.uri
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store-url", default="", help="a store of your own")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 50_000])
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--searches", type=int, default=200)
    options = parser.parse_args()

    def run(url: str) -> None:
        settings = SearchSettings(store_url=url)
        asyncio.run(
            measure(make_store(settings), sorted(options.sizes), options.dimension, options.rounds, options.searches)
        )

    if options.store_url:
        run(options.store_url)
    else:
        with own_postgres() as url:
            run(url)


if __name__ == "__main__":
    main()
