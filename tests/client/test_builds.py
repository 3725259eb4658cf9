"""Waiting for indexes that are built: how far they are, and why one could not be."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.rpc.status import to_status
from lensmesh_client import Client, IndexState, LensmeshError, Reason
from tests.router.fake_search import FakeSearch

DEFERRED, BUILDING, BUILT = (
    search_pb2.IndexStatus(state=search_pb2.IndexState.Value(f"INDEX_STATE_{name}"))
    for name in ("DEFERRED", "BUILDING", "BUILT")
)


class Building(FakeSearch):
    """A store that tells at each look how far its indexes are: the next of what it was given."""

    def __init__(self, *told: Sequence[search_pb2.IndexStatus]) -> None:
        super().__init__()
        self.told = list(told)
        self.asked = 0

    def _collection(self, name: str) -> search_pb2.Collection:
        statuses = self.told.pop(0)
        spaces = [search_pb2.NamedSpace(name=f"s{n}", index_status=status) for n, status in enumerate(statuses)]
        return search_pb2.Collection(name=name, spaces=spaces)

    async def BuildIndexes(self, request: search_pb2.BuildIndexesRequest, context: Any) -> Any:
        self.asked += 1
        return await super().BuildIndexes(request, context)


@asynccontextmanager
async def client_of(store: Building) -> AsyncIterator[Client]:
    server = grpc.aio.server()
    search_pb2_grpc.add_SearchServiceServicer_to_server(store, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with Client(f"127.0.0.1:{port}", timeout_s=30) as client:
            yield client
    finally:
        await server.stop(None)


async def test_it_waits_until_all_indexes_are_built() -> None:
    half = search_pb2.IndexStatus(state=search_pb2.INDEX_STATE_BUILDING, progress=0.5)
    store = Building([BUILDING, BUILDING], [BUILT, half], [BUILT, BUILT])
    seen: list[float] = []
    async with client_of(store) as client:
        collection = await client.collections.build_index("c", on_progress=seen.append)
    assert {name: status.state for name, status in collection.indexes.items()} == dict.fromkeys(
        ("s0", "s1"), IndexState.BUILT
    )
    assert (seen, store.asked) == ([0.0, 0.75], 1)


async def test_it_need_not_be_waited_for() -> None:
    async with client_of(Building([BUILDING])) as client:
        collection = await client.collections.build_index("c", wait=False)
    assert collection.indexes["s0"].state is IndexState.BUILDING


async def test_why_it_could_not_be_built_is_raised() -> None:
    full = search_pb2.IndexStatus(state=search_pb2.INDEX_STATE_BUILDING)
    full.error.CopyFrom(to_status(Unavailable(Reason.STORE_FULL, "no room")))
    async with client_of(Building([BUILDING], [full])) as client:
        with pytest.raises(LensmeshError, match="no room") as caught:
            await client.collections.build_index("c")
    assert caught.value.reason is Reason.STORE_FULL
