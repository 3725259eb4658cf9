"""Items written into a store by UpsertItems, beside rows copied into a table of pgvector and indexed then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc
import numpy as np

from bench.figures import Target, over
from bench.loading import HITS, alone, build, collection, load, recall
from bench.measure import Results
from bench.rounds import Part, in_rounds, times
from bench.rows.group import Group, Row, Say
from bench.rows.sides import sides
from bench.rows.store import BATCH, Store, open_store
from bench.stage import Stage
from bench.store.drawn import Vectors, draw
from bench.store.filling import PATIENCE_S
from bench.stores import NAME
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import DIRECT

if TYPE_CHECKING:
    from lensmesh.search.v1.search_pb2_grpc import SearchServiceAsyncStub

DIMENSION = 512
# Written into an index that is there, and loaded before it is built; by one caller, and by several.
ITEMS, LOADED, FEW = 3_000, 50_000, 100
CALLERS = 4
QUERIES = 100


async def measure(stage: Stage, results: Results, say: Say) -> None:
    """Measure a new collection with its index from the first item on, and one whose index is built at the end."""
    count, loaded = (FEW, FEW) if stage.options.smoke else (ITEMS, LOADED)
    stores = {side.prefix: await open_store(stage, side) for side in sides(stage)}
    vectors, uri = draw(np.random.default_rng(1), loaded, DIMENSION), stores[""].database.uri
    parts: dict[str, Part] = {
        "bare": _bare(uri, vectors[:count], "writing/bare"),
        "bare_load": _bare(uri, vectors, "writing/bare_load"),
        "load": _load(stores[""], vectors),
    }
    for prefix, store in stores.items():
        parts[f"{prefix}indexed"] = _indexed(store, vectors[:count], f"writing/{prefix}indexed_rate")
    await in_rounds(parts, results, rounds=stage.options.rounds, say=say)


def _bare(uri: str, vectors: Vectors, key: str) -> Part:
    async def part() -> Mapping[str, float]:
        rate, build_s = await alone(uri, vectors)
        count = len(vectors)
        return {f"{key}_copy_rate": rate, f"{key}_build_s": build_s, f"{key}_rate": count / (count / rate + build_s)}

    return part


def _indexed(store: Store, vectors: Vectors, key: str) -> Part:
    async def part() -> Mapping[str, float]:
        async with _collection(store, deferred=False) as stub:
            return {key: await load(stub, vectors, BATCH, CALLERS)}

    return part


def _load(store: Store, vectors: Vectors) -> Part:
    async def part() -> Mapping[str, float]:
        async with _collection(store, deferred=True) as stub:
            return {
                "writing/load_rate": await load(stub, vectors, BATCH, CALLERS),
                "writing/load_build_s": await build(stub),
                "writing/load_recall": await recall(stub, draw(np.random.default_rng(2), QUERIES, DIMENSION)),
            }

    return part


@asynccontextmanager
async def _collection(store: Store, *, deferred: bool) -> AsyncIterator[SearchServiceAsyncStub]:
    """Make a new collection, and remove it in the end."""
    async with grpc.aio.insecure_channel(store.search.address, [DIRECT]) as channel:
        stub = search_pb2_grpc.SearchServiceStub(channel)
        defined = collection(DIMENSION, deferred=deferred)
        await stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=defined), timeout=PATIENCE_S)
        try:
            yield stub
        finally:
            await stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name=NAME), timeout=PATIENCE_S)


_INDEXED = f"UpsertItems of {DIMENSION} numbers, {CALLERS} callers, into an HNSW collection"
_RATE, _BUILD_S, _RECALL = (f"writing/load_{figure}" for figure in ("rate", "build_s", "recall"))
_COPY_RATE, _BARE_BUILD_S = "writing/bare_load_copy_rate", "writing/bare_load_build_s"
GROUP = Group(
    measure,
    (
        Row(_INDEXED, "writing/indexed_rate", "writing/bare_rate", f"{ITEMS:,} rows copied, then indexed", "/s"),
        Row("UpsertItems likewise, index deferred", _RATE, _COPY_RATE, f"{LOADED:,} rows copied", "/s"),
        Row("building that index", _BUILD_S, _BARE_BUILD_S, f"the same over {LOADED:,} rows", "s"),
        Row(f"recall@{HITS} then", _RECALL, unit=""),
    ),
    (
        Target("items/s by UpsertItems, index deferred", 4_000, over(_RATE), unit="", digits=0),
        Target(
            f"index of {LOADED:,} built then, of the same over bare rows",
            3.0,
            times(_BUILD_S, _BARE_BUILD_S),
            at="most",
        ),
        Target(f"recall@{HITS} of {LOADED:,} then", 0.99, over(_RECALL), unit="", digits=4),
    ),
)
