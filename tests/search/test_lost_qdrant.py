"""Qdrant away: at the start, in the middle, hanging, refusing; and back. The server is the stand-in."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.process.health import HealthState
from lensmesh_chassis.process.server import running
from lensmesh_chassis.reasons import Reason
from search_svc.app import SERVICE, SearchApp
from tests.search.conftest import settings_for
from tests.search.standin import StandIn
from tests.search.support import Stub, create, found, item, listed, refused, search_request, upsert
from tests.support.tcp import tcp_server
from tests.support.waiting import until

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
SECRET = "very-secret"


@pytest.fixture
async def standin() -> AsyncIterator[StandIn]:
    """A server that listens."""
    made = StandIn()
    await made.start()
    yield made
    made.flowing.set()
    await made.remove()


async def serving(health: HealthState, wanted: bool) -> None:
    """Waits until health says so."""

    async def said() -> bool:
        return health.is_serving(SERVICE) is wanted

    await until(said)


async def test_absent_at_the_start(standin: StandIn) -> None:
    url = standin.url(SECRET)
    await standin.stop()
    settings = settings_for(url, store_check_seconds=0.1)
    async with running(settings, SearchApp, "search") as server, open_channel(server.address) as channel:
        stub: Stub = search_pb2_grpc.SearchServiceStub(channel)
        health = server.runtime.health
        assert not health.is_serving(SERVICE)
        assert health.reason() == "store: Qdrant is not reachable: try again shortly"
        info = await stub.GetInfo(search_pb2.GetInfoRequest())
        assert (info.store, info.server.not_serving_reason) == ("qdrant", health.reason())
        error = await refused(create(stub), UNAVAILABLE, Reason.STORE_UNAVAILABLE)
        assert error.retry_after_s is not None
        assert SECRET not in error.message
        await standin.start()
        await serving(health, True)
        await create(stub)
        assert (await stub.GetInfo(search_pb2.GetInfoRequest())).store == "qdrant 1.17.0"


async def test_gone_and_back(standin: StandIn) -> None:
    settings = settings_for(standin.url(), store_check_seconds=0.1)
    async with running(settings, SearchApp, "search") as server, open_channel(server.address) as channel:
        stub: Stub = search_pb2_grpc.SearchServiceStub(channel)
        health = server.runtime.health
        await create(stub)
        await upsert(stub, item("before", [1, 0, 0, 0]))
        await standin.stop()
        await refused(upsert(stub, item("during")), UNAVAILABLE, Reason.STORE_UNAVAILABLE)
        await refused(found(stub, search_request([1, 0, 0, 0])), UNAVAILABLE, Reason.STORE_UNAVAILABLE)
        await serving(health, False)
        await standin.start()
        await serving(health, True)
        assert await upsert(stub, item("after", [1, 0, 0, 0])) == [search_pb2.UPSERT_OUTCOME_CREATED]
        assert sorted(await listed(stub)) == ["after", "before"]
    assert standin.careless == []


async def test_calls_cut_in_the_middle_lose_nothing_acknowledged(standin: StandIn) -> None:
    settings = settings_for(standin.url())
    async with running(settings, SearchApp, "search") as server, open_channel(server.address) as channel:
        stub: Stub = search_pb2_grpc.SearchServiceStub(channel)
        await create(stub)
        acknowledged: set[str] = set()

        async def works() -> bool:
            try:
                return len(await listed(stub)) >= 0
            except grpc.aio.AioRpcError:
                return False

        for i in range(3):
            names = [f"{i}-{k}" for k in range(20)]
            calls = [asyncio.ensure_future(upsert(stub, item(name, [1, 0, 0, 0]))) for name in names]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            await standin.stop()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            failed = [each for each in outcomes if isinstance(each, BaseException)]
            assert all(isinstance(each, grpc.aio.AioRpcError) and each.code() == UNAVAILABLE for each in failed)
            acknowledged |= {name for name, each in zip(names, outcomes, strict=True) if isinstance(each, list)}
            await standin.start()
            await until(works)
        assert acknowledged
        assert acknowledged <= set(await listed(stub))


async def test_a_hanging_server_costs_a_deadline_and_no_more(standin: StandIn) -> None:
    settings = settings_for(standin.url(), store_check_seconds=0.1, store_connect_seconds=0.5)
    async with running(settings, SearchApp, "search") as server, open_channel(server.address) as channel:
        stub: Stub = search_pb2_grpc.SearchServiceStub(channel)
        health = server.runtime.health
        await create(stub)
        standin.flowing.clear()
        request = search_pb2.ListItemsRequest(collection="pictures")
        for call in [stub.ListItems(request, timeout=0.5) for _ in range(4)]:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await serving(health, False)
        assert health.reason() == "store: Qdrant does not answer: try again shortly"
        standin.flowing.set()
        await serving(health, True)
        assert await listed(stub) == []


async def test_a_key_that_is_refused_and_then_taken(standin: StandIn) -> None:
    standin.api_key = "the right one"
    settings = settings_for(standin.url(SECRET), store_check_seconds=0.1)
    async with running(settings, SearchApp, "search") as server:
        health = server.runtime.health
        assert health.reason() == "store: Qdrant refuses this service's API key: try again shortly"
        standin.api_key = SECRET
        await serving(health, True)
    assert ("api-key", SECRET) in standin.metadata


ANSWERS = {
    **dict.fromkeys(grpc.StatusCode, (UNAVAILABLE, Reason.STORE_UNAVAILABLE)),
    grpc.StatusCode.INVALID_ARGUMENT: (grpc.StatusCode.INTERNAL, Reason.INTERNAL),
    grpc.StatusCode.OUT_OF_RANGE: (grpc.StatusCode.INTERNAL, Reason.INTERNAL),
    grpc.StatusCode.DEADLINE_EXCEEDED: (grpc.StatusCode.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED),
}
# About a collection: gone, or there already.
del ANSWERS[grpc.StatusCode.OK], ANSWERS[grpc.StatusCode.NOT_FOUND], ANSWERS[grpc.StatusCode.ALREADY_EXISTS]


@pytest.mark.parametrize("code", ANSWERS)
async def test_what_the_server_says_stays_in_the_log(standin: StandIn, code: grpc.StatusCode) -> None:
    async with (
        running(settings_for(standin.url()), SearchApp, "search") as server,
        open_channel(server.address) as channel,
    ):
        stub: Stub = search_pb2_grpc.SearchServiceStub(channel)
        await create(stub)
        standin.failing["Upsert"] = code
        error = await refused(upsert(stub, item("a")), *ANSWERS[code])
        assert "made to fail" not in error.message
        standin.failing.clear()
        assert await upsert(stub, item("a")) == [search_pb2.UPSERT_OUTCOME_CREATED]


async def test_a_port_that_speaks_something_else() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with (
        tcp_server(hang_up) as port,
        running(settings_for(f"qdrant://127.0.0.1:{port}"), SearchApp, "search") as server,
    ):
        assert server.runtime.health.reason().startswith("store: Qdrant is not reachable")
