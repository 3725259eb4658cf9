"""Items written into a store by UpsertItems, beside rows copied into a table of pgvector and indexed then."""

from __future__ import annotations

import time
from collections.abc import Mapping

import grpc
import numpy as np

from bench.bare.loading import load
from bench.measure import Results
from bench.rounds import Part, in_rounds
from bench.rows.group import Group, Row, Say
from bench.rows.sides import sides
from bench.rows.store import PATIENCE_S, Store, batches, collection, items, open_store
from bench.stage import Stage
from bench.stores import draw
from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import DIRECT

DIMENSION = 512
ITEMS, FEW = 3_000, 100
SPACE = common_pb2.VectorSpace(id="vs1-bench", model="bench", dimension=DIMENSION, normalized=True)


async def measure(stage: Stage, results: Results, say: Say) -> None:
    """Measure a new collection, with its index from the first item on."""
    count = FEW if stage.options.smoke else ITEMS
    vectors, made = draw(np.random.default_rng(1), count, DIMENSION), items(SPACE, count)
    stores = {side.prefix: await open_store(stage, side) for side in sides(stage)}
    uri = stores[""].database.uri

    async def bare() -> Mapping[str, float]:
        loaded = await load(uri, vectors)
        return {
            "writing/bare_rate": count / (loaded.copy_s + loaded.build_s),
            "writing/bare_copy_rate": count / loaded.copy_s,
            "writing/bare_build_s": loaded.build_s,
        }

    def indexed(store: Store, key: str) -> Part:
        async def part() -> Mapping[str, float]:
            return {key: count / await _write(store, collection(SPACE, "written"), made)}

        return part

    parts: dict[str, Part] = {"bare": bare}
    for prefix, store in stores.items():
        parts[f"{prefix}indexed"] = indexed(store, f"writing/{prefix}indexed_rate")
    await in_rounds(parts, results, rounds=stage.options.rounds, say=say)


async def _write(store: Store, defined: search_pb2.Collection, made: list[search_pb2.Item]) -> float:
    """Write the items into a new collection, a call after another. Return the seconds."""
    requests = batches(defined.name, made)
    async with grpc.aio.insecure_channel(store.search.address, [DIRECT]) as channel:
        stub = search_pb2_grpc.SearchServiceStub(channel)
        await stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=defined), timeout=PATIENCE_S)
        try:
            began = time.monotonic()
            for request in requests:
                await stub.UpsertItems(request, timeout=PATIENCE_S)
            return time.monotonic() - began
        finally:
            await stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name=defined.name), timeout=PATIENCE_S)


GROUP = Group(
    measure,
    (
        Row(
            f"UpsertItems of {DIMENSION} numbers into an HNSW collection",
            "writing/indexed_rate",
            "writing/bare_rate",
            f"{ITEMS:,} rows copied, then indexed",
            "/s",
        ),
    ),
    (),
)
