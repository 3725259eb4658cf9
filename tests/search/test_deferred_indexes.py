"""Indexes that are left for later: searches are exact until they are built, by a call or by the service itself."""

import asyncio
from typing import Any

import grpc
import pytest

from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.process.server import running
from lensmesh_chassis.reasons import Reason
from search_svc.app import SearchApp
from tests.search.builds import LATER, VECTORS, build, built, filled, is_exact, uses_index
from tests.search.conftest import Serve, settings_for
from tests.search.standin import StandIn
from tests.search.support import (
    Stub,
    collection,
    create,
    found,
    index_status,
    item,
    named_space,
    refused,
    search_request,
    upsert,
)
from tests.support.waiting import until


async def test_an_index_is_built_when_it_is_asked_for(serve: Serve) -> None:
    async with serve(store_check_seconds=0.05) as (stub, _):
        nearest = await filled(stub)
        assert nearest[0] == "i007"
        assert (await index_status(stub)).state == search_pb2.INDEX_STATE_DEFERRED
        assert await is_exact(stub)
        told = await build(stub)
        assert told.item_count == len(VECTORS)
        assert told.spaces[0].index.HasField("deferred")
        await until(lambda: built(stub))
        await until(lambda: uses_index(stub))
        assert await is_exact(stub, tuning=search_pb2.SearchTuning(exact=True))
        assert await found(stub, search_request(VECTORS[7], limit=20)) == nearest
        # Writes keep it up to date, and it is not built again.
        await upsert(stub, item("late", VECTORS[7]), item("i007"))
        assert await found(stub, search_request(VECTORS[7], limit=20)) == ["late", *nearest[1:]]
        assert (await build(stub)).spaces[0].index_status.state == search_pb2.INDEX_STATE_BUILT


async def test_it_is_built_once_there_are_so_many_items(serve: Serve) -> None:
    async with serve(store_check_seconds=0.05) as (stub, _):
        await create(stub, collection("pictures", named_space(deferred=search_pb2.DeferredBuild(at_item_count=3))))
        await upsert(stub, item("a", [1, 0, 0, 0]), item("b", [0, 1, 0, 0]))
        # Some looks of the service later.
        await asyncio.sleep(0.2)
        assert (await index_status(stub)).state == search_pb2.INDEX_STATE_DEFERRED
        await upsert(stub, item("c", [0, 0, 1, 0]))
        await until(lambda: built(stub))


async def test_when_an_index_is_built_makes_no_other_collection(stub: Stub) -> None:
    made = await create(stub, collection("pictures", named_space(deferred=LATER)))
    assert await create(stub, collection("pictures", named_space())) == made
    assert made.spaces[0].index.deferred == LATER
    # And one that is there from the beginning stays.
    made = await create(stub, collection("others", named_space()))
    assert await create(stub, collection("others", named_space(deferred=LATER))) == made
    assert not made.spaces[0].index.HasField("deferred")
    assert made.spaces[0].index_status.state == search_pb2.INDEX_STATE_BUILT


async def test_searches_say_whether_they_are_exact(stub: Stub) -> None:
    await create(stub, collection("pictures", named_space()))
    await create(stub, collection("flat", named_space(flat=True)))
    assert not await is_exact(stub)
    assert await is_exact(stub, tuning=search_pb2.SearchTuning(exact=True))
    assert await is_exact(stub, collection="flat")
    flat = await stub.GetCollection(search_pb2.GetCollectionRequest(name="flat"))
    assert not flat.collection.spaces[0].HasField("index_status")
    answer = await stub.BatchSearch(
        search_pb2.BatchSearchRequest(
            searches=[search_request([1, 0, 0, 0], collection=name) for name in ("pictures", "flat")]
        )
    )
    assert [result.response.exact for result in answer.results] == [False, True]


async def test_nothing_is_built_of_what_is_not_there(stub: Stub) -> None:
    error = await refused(build_of(stub, "nothing"), grpc.StatusCode.NOT_FOUND, Reason.COLLECTION_NOT_FOUND)
    assert "nothing" in error.message
    await refused(build_of(stub, ""), grpc.StatusCode.INVALID_ARGUMENT, Reason.COLLECTION_INVALID, "collection")


async def build_of(stub: Stub, name: str) -> None:
    await stub.BuildIndexes(search_pb2.BuildIndexesRequest(collection=name))


@pytest.fixture
async def standin() -> Any:
    """A Qdrant whose optimizer does as it is told."""
    made = StandIn()
    await made.start()
    yield made
    await made.remove()


async def test_what_qdrants_optimizer_says_is_passed_on(standin: StandIn) -> None:
    async with (
        running(settings_for(standin.url(), store_check_seconds=0.05), SearchApp, "search") as server,
        open_channel(server.address) as channel,
    ):
        stub: Stub = search_pb2_grpc.SearchServiceStub(channel)
        await filled(stub)
        standin.optimized = 0.5
        told = (await build(stub)).spaces[0].index_status
        assert (told.state, told.progress) == (search_pb2.INDEX_STATE_BUILDING, 0.5)
        # Half of a graph would miss items.
        assert await is_exact(stub)
        standin.optimizer_error = "Service internal error: No space left on device"
        status = await index_status(stub)
        assert status.state == search_pb2.INDEX_STATE_BUILDING
        assert "no room left" in status.error.message
        # Restarted: it goes on once it is spoken to.
        standin.optimizer_error, standin.optimized, standin.waits = "", None, True
        await until(lambda: built(stub))
        assert not standin.waits
