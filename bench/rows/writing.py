"""Items written into a store by UpsertItems, beside rows copied into a table of pgvector and indexed then."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence

import grpc
import numpy as np

from bench.bare.loading import load
from bench.figures import Target, over
from bench.measure import Results
from bench.rounds import Part, in_rounds, times
from bench.rows.group import Group, Row, Say
from bench.rows.sides import sides
from bench.rows.store import PATIENCE_S, Store, batches, collection, items, open_store
from bench.stage import Stage
from bench.stores import Vectors, draw
from bench.worker import WorkerError
from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import DIRECT

DIMENSION = 512
# Written into an index that is there, and loaded before it is built.
ITEMS, LOADED, FEW = 3_000, 50_000, 100
SPACE = common_pb2.VectorSpace(id="vs1-bench", model="bench", dimension=DIMENSION, normalized=True)
QUERIES, HITS = 100, 10
POLL_S = 0.05


async def measure(stage: Stage, results: Results, say: Say) -> None:
    """Measure a new collection with its index from the first item on, and one whose index is built at the end."""
    count, loaded = (FEW, FEW) if stage.options.smoke else (ITEMS, LOADED)
    stores = {side.prefix: await open_store(stage, side) for side in sides(stage)}
    vectors, made = draw(np.random.default_rng(1), loaded, DIMENSION), items(SPACE, loaded)
    uri = stores[""].database.uri
    parts: dict[str, Part] = {
        "bare": _bare(uri, vectors[:count], "writing/bare"),
        "bare_load": _bare(uri, vectors, "writing/bare_load"),
        "load": _load(stores[""], made),
    }
    for prefix, store in stores.items():
        parts[f"{prefix}indexed"] = _indexed(store, made[:count], f"writing/{prefix}indexed_rate")
    await in_rounds(parts, results, rounds=stage.options.rounds, say=say)


def _bare(uri: str, vectors: Vectors, key: str) -> Part:
    async def part() -> Mapping[str, float]:
        loaded, count = await load(uri, vectors), len(vectors)
        return {
            f"{key}_rate": count / (loaded.copy_s + loaded.build_s),
            f"{key}_copy_rate": count / loaded.copy_s,
            f"{key}_build_s": loaded.build_s,
        }

    return part


def _indexed(store: Store, made: Sequence[search_pb2.Item], key: str) -> Part:
    async def part() -> Mapping[str, float]:
        async with _Collection(store, collection(SPACE, "written")) as written:
            return {key: len(made) / await written.write(made)}

    return part


def _load(store: Store, made: Sequence[search_pb2.Item]) -> Part:
    async def part() -> Mapping[str, float]:
        defined = collection(SPACE, "loaded")
        defined.spaces[0].index.deferred.SetInParent()
        async with _Collection(store, defined) as loaded:
            took = await loaded.write(made)
            built = await loaded.build()
            return {
                "writing/load_rate": len(made) / took,
                "writing/load_build_s": built,
                "writing/load_recall": await loaded.recall(),
            }

    return part


class _Collection:
    """A new collection, removed in the end."""

    def __init__(self, store: Store, defined: search_pb2.Collection) -> None:
        self._defined = defined
        self._channel = grpc.aio.insecure_channel(store.search.address, [DIRECT])
        self._stub = search_pb2_grpc.SearchServiceStub(self._channel)

    async def __aenter__(self) -> _Collection:
        request = search_pb2.CreateCollectionRequest(collection=self._defined)
        await self._stub.CreateCollection(request, timeout=PATIENCE_S)
        return self

    async def __aexit__(self, *error: object) -> None:
        request = search_pb2.DeleteCollectionRequest(name=self._defined.name)
        await self._stub.DeleteCollection(request, timeout=PATIENCE_S)
        await self._channel.close()

    async def write(self, made: Sequence[search_pb2.Item]) -> float:
        """Write the items, a call after another. Return the seconds."""
        requests = batches(self._defined.name, made)
        began = time.monotonic()
        for request in requests:
            await self._stub.UpsertItems(request, timeout=PATIENCE_S)
        return time.monotonic() - began

    async def build(self) -> float:
        """Build the index that was left for later. Return the seconds."""
        began = time.monotonic()
        name = self._defined.name
        await self._stub.BuildIndexes(search_pb2.BuildIndexesRequest(collection=name), timeout=PATIENCE_S)
        while True:
            found = await self._stub.GetCollection(search_pb2.GetCollectionRequest(name=name), timeout=PATIENCE_S)
            status = found.collection.spaces[0].index_status
            if status.state == search_pb2.INDEX_STATE_BUILT:
                return time.monotonic() - began
            if status.HasField("error"):
                raise WorkerError(f"the index was not built: {status.error.message}")
            await asyncio.sleep(POLL_S)

    async def recall(self) -> float:
        """Return the share of the nearest that the index finds, with the service's own settings."""
        shares = []
        for query in draw(np.random.default_rng(2), QUERIES, DIMENSION):
            truth, found = [await self._ids(query.tobytes(), exact=exact) for exact in (True, False)]
            shares.append(len(truth & found) / len(truth))
        return statistics.mean(shares)

    async def _ids(self, vector: bytes, *, exact: bool) -> set[str]:
        embedding = common_pb2.Embedding(
            space_id=SPACE.id, data_type=common_pb2.DATA_TYPE_FLOAT16, dimension=DIMENSION, data=vector
        )
        request = search_pb2.SearchRequest(
            collection=self._defined.name,
            legs=[search_pb2.SearchLeg(embedding=embedding)],
            limit=HITS,
            tuning=search_pb2.SearchTuning(exact=exact),
            read=search_pb2.ReadOptions(view=search_pb2.ITEM_VIEW_ID),
        )
        return {hit.item.id for hit in (await self._stub.Search(request, timeout=PATIENCE_S)).hits}


_RATE, _BUILD_S, _BARE_BUILD_S = "writing/load_rate", "writing/load_build_s", "writing/bare_load_build_s"
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
        Row("UpsertItems, index deferred", _RATE, "writing/bare_load_copy_rate", f"{LOADED:,} rows copied", "/s"),
        Row("building that index", _BUILD_S, _BARE_BUILD_S, f"the same over {LOADED:,} rows", "s"),
        Row(f"recall@{HITS} then", "writing/load_recall", unit=""),
    ),
    (
        Target("UpsertItems, index deferred", 4_000, over(_RATE), unit="/s", digits=0),
        Target(
            f"index of {LOADED:,} built then, of the same over bare rows",
            3.0,
            times(_BUILD_S, _BARE_BUILD_S),
            at="most",
        ),
        Target(f"recall@{HITS} of {LOADED:,} then", 0.99, over("writing/load_recall"), unit="", digits=4),
    ),
)
