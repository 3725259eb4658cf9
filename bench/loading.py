"""The cost of filling a large collection: items a second through UpsertItems, and the time to build its index.

    python -m bench.loading                         an embedded PostgreSQL, made for it and removed
    python -m bench.loading --on-write              the index is there from the beginning, for comparison
    python -m bench.loading --store-url URL         a PostgreSQL of your own; the collection `bench` is made and removed

The service is a process of its own, and so is the database. Rounds take turns with pgvector alone: the same vectors in
one plain table by COPY, and the same index by CREATE INDEX with the same memory and workers.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import numpy as np
import psutil
from pgvector import HalfVector
from pgvector.asyncpg import register_vector

from bench.store.drawn import Vectors, draw
from bench.store.filling import PATIENCE_S
from bench.stores import NAME, own_postgres, say
from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import open_channel

SPACE_ID = "vs1-bench"
MEMORY_BYTES = 1024 * 1024 * 1024
WORKERS = 2
HITS = 10


def collection(dimension: int, *, deferred: bool) -> search_pb2.Collection:
    """Define a normalized space with the default index."""
    named = search_pb2.NamedSpace(name="image")
    named.space.CopyFrom(common_pb2.VectorSpace(id=SPACE_ID, dimension=dimension, normalized=True))
    if deferred:
        named.index.deferred.SetInParent()
    return search_pb2.Collection(name=NAME, spaces=[named])


def request(vectors: Vectors, begin: int) -> search_pb2.UpsertItemsRequest:
    """Make a call with items as an ingest makes them."""
    message = search_pb2.UpsertItemsRequest(collection=NAME)
    for place, vector in enumerate(vectors, start=begin):
        item = message.items.add(id=f"{place:08}", image_uri=f"file:///images/{place}.jpg")
        item.content_digest = place.to_bytes(32, "big")
        item.metadata.update({"file": f"/images/{place}.jpg", "iso": 100})
        item.vectors["image"].CopyFrom(embedding(vector))
    return message


def embedding(vector: Vectors) -> common_pb2.Embedding:
    """Make a message of a vector, in float32 as encoders send it."""
    return common_pb2.Embedding(
        space_id=SPACE_ID,
        data_type=common_pb2.DATA_TYPE_FLOAT32,
        dimension=len(vector),
        data=vector.astype("<f4").tobytes(),
    )


@asynccontextmanager
async def service(url: str) -> AsyncIterator[tuple["search_pb2_grpc.SearchServiceAsyncStub", psutil.Process]]:
    """Run `python -m search_svc` on a store."""
    with tempfile.TemporaryDirectory(prefix="lensmesh-bench-") as folder:
        ready = Path(folder) / "ready.json"
        environment = {
            **os.environ,
            "LENSMESH_SEARCH_STORE_URL": url,
            "LENSMESH_SEARCH_LISTEN": "127.0.0.1:0",
            "LENSMESH_SEARCH_READY_FILE": str(ready),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "search_svc", env=environment, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            while not ready.exists():
                if process.returncode is not None:
                    raise SystemExit("the service did not start")
                await asyncio.sleep(0.05)
            address = json.loads(ready.read_text())["addresses"][0]
            async with open_channel(address) as channel:
                yield search_pb2_grpc.SearchServiceStub(channel), psutil.Process(process.pid)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


def cpu_s(processes: Sequence[psutil.Process]) -> float:
    """Return the processor time of processes and what they started, ended ones included."""
    total = 0.0
    for process in processes:
        for one in (process, *process.children(recursive=True)):
            try:
                times = one.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        own = process.cpu_times()
        total += own.children_user + own.children_system
    return total


async def load(stub: "search_pb2_grpc.SearchServiceAsyncStub", vectors: Vectors, batch: int, callers: int) -> float:
    """Write all vectors. Return the items a second."""
    begins = iter(range(0, len(vectors), batch))

    async def call() -> None:
        for begin in begins:
            await stub.UpsertItems(request(vectors[begin : begin + batch], begin), timeout=PATIENCE_S)

    begun = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(callers)))
    return len(vectors) / (time.perf_counter() - begun)


async def build(stub: "search_pb2_grpc.SearchServiceAsyncStub") -> float:
    """Build the index. Return the seconds until it is there."""
    begun = time.perf_counter()
    answer: search_pb2.BuildIndexesResponse | search_pb2.GetCollectionResponse
    answer = await stub.BuildIndexes(search_pb2.BuildIndexesRequest(collection=NAME))
    while answer.collection.spaces[0].index_status.state != search_pb2.INDEX_STATE_BUILT:
        if answer.collection.spaces[0].index_status.HasField("error"):
            raise SystemExit(answer.collection.spaces[0].index_status.error.message)
        await asyncio.sleep(0.1)
        answer = await stub.GetCollection(search_pb2.GetCollectionRequest(name=NAME))
    return time.perf_counter() - begun


async def recall(stub: "search_pb2_grpc.SearchServiceAsyncStub", queries: Vectors) -> float:
    """Return how many of the nearest the index finds."""

    async def ids(vector: Vectors, *, exact: bool) -> set[str]:
        search = search_pb2.SearchRequest(collection=NAME, limit=HITS, tuning=search_pb2.SearchTuning(exact=exact))
        search.legs.add().embedding.CopyFrom(embedding(vector))
        search.read.view = search_pb2.ITEM_VIEW_ID
        answer = await stub.Search(search)
        assert answer.exact == exact
        return {hit.item.id for hit in answer.hits}

    return statistics.mean(
        [len(await ids(vector, exact=False) & await ids(vector, exact=True)) / HITS for vector in queries]
    )


async def alone(url: str, vectors: Vectors) -> tuple[float, float]:
    """Do the same with pgvector alone. Return the items a second of COPY, and the seconds of CREATE INDEX."""
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE EXTENSION IF NOT EXISTS vector; DROP TABLE IF EXISTS bench_alone")
    await register_vector(connection)
    await connection.execute(
        f"CREATE TABLE bench_alone (key bigint PRIMARY KEY, vector halfvec({vectors.shape[1]}));"
        f"SET maintenance_work_mem = '{MEMORY_BYTES // 1024}kB'; SET max_parallel_maintenance_workers = {WORKERS}"
    )
    begun = time.perf_counter()
    records = [(key, HalfVector(vector)) for key, vector in enumerate(vectors)]
    await connection.copy_records_to_table("bench_alone", records=records)
    rate = len(vectors) / (time.perf_counter() - begun)
    begun = time.perf_counter()
    await connection.execute(
        "CREATE INDEX ON bench_alone USING hnsw (vector halfvec_cosine_ops) WITH (m = 16, ef_construction = 128)",
        timeout=PATIENCE_S,
    )
    seconds = time.perf_counter() - begun
    await connection.execute("DROP TABLE bench_alone")
    await connection.close()
    return rate, seconds


async def measure(url: str, options: argparse.Namespace, database: Sequence[psutil.Process]) -> None:
    """Measure, and print the figures of each round."""
    random = np.random.default_rng(1)
    vectors, queries = draw(random, options.items, options.dimension), draw(random, options.searches, options.dimension)
    say(f"{options.items:,} items of {options.dimension} numbers, calls of {options.batch}, {options.callers} callers")
    for number in range(1, options.rounds + 1):
        copied, bare_s = (0.0, 0.0) if options.on_write else await alone(url, vectors)
        async with service(url) as (stub, process):
            await stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name=NAME))
            made = collection(options.dimension, deferred=not options.on_write)
            await stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=made))
            before = cpu_s([process]), cpu_s(database)
            rate = await load(stub, vectors, options.batch, options.callers)
            after = cpu_s([process]), cpu_s(database)
            service_us, database_us = (1e6 * (b - a) / len(vectors) for a, b in zip(before, after, strict=True))
            line = f"round {number}: {rate:,.0f} items/s; us of processor an item: {service_us:.0f} + {database_us:.0f}"
            if not options.on_write:
                seconds = await build(stub)
                line += f"; index {seconds:.1f} s, {seconds / bare_s:.2f} of pgvector's own {bare_s:.1f} s"
                line += f" (which COPY fills at {copied:,.0f} items/s)"
            say(f"{line}; recall@{HITS} {await recall(stub, queries):.4f}")
            await stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name=NAME))


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store-url", default="", help="a PostgreSQL of your own")
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--batch", type=int, default=500, help="items of one call")
    parser.add_argument("--callers", type=int, default=4, help="calls at a time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--on-write", action="store_true", help="do not leave the index for later")
    options = parser.parse_args()
    if options.store_url:
        asyncio.run(measure(options.store_url, options, []))
        return
    with own_postgres() as url:
        here = psutil.Process().children(recursive=True)
        asyncio.run(measure(url, options, [each for each in here if each.name().startswith("postgres")][:1]))


if __name__ == "__main__":
    main()
