"""Searches while the index that they use is built anew by a job: how many fail, and how long they take."""

import asyncio
import time
from collections.abc import AsyncIterator

import grpc
import numpy as np

from bench.store.drawn import HITS, draw, spread
from bench.store.routed import mesh
from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import DIRECT

_PATIENCE_S = 60.0
_CALLERS = 2
# Between two searches of a caller: a busy mesh, and not one that does nothing else.
_PAUSE_S = 0.05
_LOOK_S = 1.0


class _Callers:
    """Callers that search until they are stopped."""

    def __init__(self, stub: "search_pb2_grpc.SearchServiceAsyncStub", collection: search_pb2.Collection) -> None:
        self._stub = stub
        self._collection = collection
        self.times: list[float] = []
        self.failed: list[str] = []

    async def _one(self, seed: int) -> None:
        space = self._collection.spaces[0].space
        random = np.random.default_rng(seed)
        while True:
            vector = draw(random, 1, space.dimension)[0].astype("<f4")
            request = search_pb2.SearchRequest(collection=self._collection.name, limit=HITS)
            leg = request.legs.add()
            leg.embedding.space_id, leg.embedding.dimension = space.id, space.dimension
            leg.embedding.data_type, leg.embedding.data = common_pb2.DATA_TYPE_FLOAT32, vector.tobytes()
            begun = time.perf_counter()
            try:
                hits = (await self._stub.Search(request, timeout=_PATIENCE_S)).hits
                if len(hits) != HITS:
                    self.failed.append(f"{len(hits)} hits")
            except grpc.aio.AioRpcError as error:
                self.failed.append(f"{error.code()} {error.details()}")
            self.times.append(1e3 * (time.perf_counter() - begun))
            await asyncio.sleep(_PAUSE_S)

    async def during(self, work: "asyncio.Task[None]") -> str:
        """Search while `work` goes on. Return the figures, for people."""
        self.times, self.failed = [], []
        callers = [asyncio.create_task(self._one(seed)) for seed in range(_CALLERS)]
        try:
            await work
        finally:
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
        figures = " / ".join(f"{spread(self.times)[key]:,.2f}" for key in ("p50", "p95", "p99"))
        return f"{len(self.times):,} searches, {len(self.failed)} failed {self.failed[:1] or ''}: {figures} ms"


async def measure(store_url: str, name: str, *, seconds: float) -> AsyncIterator[str]:
    """Yield lines of figures: before a rebuild, for that many seconds, and while it goes on."""
    async with mesh(store_url) as services, grpc.aio.insecure_channel(services["search"].address, [DIRECT]) as channel:
        stub = search_pb2_grpc.SearchServiceStub(channel)
        found = await stub.GetCollection(search_pb2.GetCollectionRequest(name=name), timeout=_PATIENCE_S)
        callers = _Callers(stub, found.collection)

        async def rebuild() -> None:
            request = search_pb2.StartRebuildIndexesRequest(collection=name)
            job = (await stub.StartRebuildIndexes(request, timeout=_PATIENCE_S)).job
            while not job.HasField("end_time"):
                await asyncio.sleep(_LOOK_S)
                job = (await stub.GetJob(search_pb2.GetJobRequest(id=job.id), timeout=_PATIENCE_S)).job
            if job.state != search_pb2.JOB_STATE_SUCCEEDED:
                raise RuntimeError(f"the job ended as {search_pb2.JobState.Name(job.state)}: {job.error}")

        await callers.during(asyncio.create_task(asyncio.sleep(seconds / 4)))
        yield f"{name}, before: {await callers.during(asyncio.create_task(asyncio.sleep(seconds)))}"
        before = spread(callers.times)["p99"]
        begun = time.perf_counter()
        line = await callers.during(asyncio.create_task(rebuild()))
        took = time.perf_counter() - begun
        ratio = spread(callers.times)["p99"] / before
        yield f"{name}, while its index is built anew, {took:,.0f} s: {line}; p99 {ratio:.2f} of that before"
        yield f"{name}, behind it: {await callers.during(asyncio.create_task(asyncio.sleep(seconds)))}"
