"""The database away: at the start, in the middle, hanging; and back."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.process.server import running
from lensmesh_chassis.reasons import Reason
from search_svc.app import SERVICE, SearchApp
from tests.search.conftest import settings_for
from tests.search.servers import Proxy
from tests.search.support import Stub, create, item, listed, refused, upsert
from tests.support.postgres import PostgresForTests
from tests.support.waiting import until

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
async def proxy(postgres: PostgresForTests, database_url: str) -> AsyncIterator[Proxy]:
    """A port in front of the server; not listening yet."""
    made = Proxy(postgres.socket)
    await made.listen()
    yield made
    made.flowing.set()
    await made.cut()


def through(proxy: Proxy) -> str:
    return f"postgresql://postgres:very-secret@127.0.0.1:{proxy.port}/postgres?sslmode=disable"


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresForTests]:
    """A server that a test may stop."""
    server = PostgresForTests()
    yield server
    server.remove()


async def test_restart_of_the_server(own_server: PostgresForTests) -> None:
    settings = settings_for(own_server.url, store_check_seconds=0.1)
    async with running(settings, SearchApp, "search") as server, open_channel(server.address) as channel:
        stub: Stub = search_pb2_grpc.SearchServiceStub(channel)
        health = server.runtime.health
        await create(stub)
        await upsert(stub, item("before", [1, 0, 0, 0]))
        await asyncio.to_thread(own_server.stop)
        error = await refused(upsert(stub, item("during")), UNAVAILABLE, Reason.STORE_UNAVAILABLE)
        assert error.retry_after_s is not None

        async def is_away() -> bool:
            return not health.is_serving(SERVICE)

        async def is_back() -> bool:
            return health.is_serving(SERVICE)

        await until(is_away)
        info = await stub.GetInfo(search_pb2.GetInfoRequest())
        assert info.server.not_serving_reason.startswith("store: ")
        await asyncio.to_thread(own_server.start)
        await until(is_back)
        assert await upsert(stub, item("after", [1, 0, 0, 0])) == [search_pb2.UPSERT_OUTCOME_CREATED]
        assert await listed(stub) == ["after", "before"]


async def test_absent_at_the_start(proxy: Proxy) -> None:
    await proxy.cut()
    settings = settings_for(through(proxy), store_check_seconds=0.1)
    async with running(settings, SearchApp, "search") as server, open_channel(server.address) as channel:
        stub: Stub = search_pb2_grpc.SearchServiceStub(channel)
        health = server.runtime.health
        assert not health.is_serving(SERVICE)
        assert "database" in health.reason()
        assert "very-secret" not in health.reason()
        info = await stub.GetInfo(search_pb2.GetInfoRequest())
        assert (info.store, info.server.not_serving_reason) == ("postgresql", health.reason())
        error = await refused(create(stub), UNAVAILABLE, Reason.STORE_UNAVAILABLE)
        assert "very-secret" not in error.message
        await proxy.listen()

        async def is_back() -> bool:
            return health.is_serving(SERVICE)

        await until(is_back)
        await create(stub)
        info = await stub.GetInfo(search_pb2.GetInfoRequest())
        assert info.store.startswith("postgresql 18.")
        assert ", pgvector 0.8." in info.store


async def test_connections_cut_in_the_middle(proxy: Proxy) -> None:
    settings = settings_for(through(proxy), store_check_seconds=0.1)
    async with running(settings, SearchApp, "search") as server, open_channel(server.address) as channel:
        stub: Stub = search_pb2_grpc.SearchServiceStub(channel)
        await create(stub)
        for i in range(3):
            calls = [asyncio.ensure_future(upsert(stub, item(f"{i}-{k}", [1, k, 0, 0]))) for k in range(20)]
            await asyncio.sleep(0)
            await proxy.cut()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            failed = [each for each in outcomes if isinstance(each, BaseException)]
            assert all(isinstance(each, grpc.aio.AioRpcError) and each.code() == UNAVAILABLE for each in failed)
            await proxy.listen()
        await upsert(stub, *(item(f"{i}-{k}", [1, k, 0, 0]) for i in range(3) for k in range(20)))
        assert len(await listed(stub)) == 60


async def test_a_hanging_database_costs_a_deadline_and_no_more(proxy: Proxy) -> None:
    settings = settings_for(through(proxy), store_check_seconds=0.1, store_connect_seconds=0.5, pool_size=2)
    async with running(settings, SearchApp, "search") as server, open_channel(server.address) as channel:
        stub: Stub = search_pb2_grpc.SearchServiceStub(channel)
        health = server.runtime.health
        await create(stub)
        proxy.flowing.clear()
        request = search_pb2.ListItemsRequest(collection="pictures")
        for call in [stub.ListItems(request, timeout=0.5) for _ in range(4)]:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, UNAVAILABLE)

        async def is_away() -> bool:
            return not health.is_serving(SERVICE)

        async def works() -> bool:
            try:
                return await listed(stub) == []
            except grpc.aio.AioRpcError:
                return False

        await until(is_away)
        proxy.flowing.set()
        await until(works)

        async def is_back() -> bool:
            return health.is_serving(SERVICE)

        await until(is_back)


@pytest.mark.parametrize("part", ["/nothing_there", "/postgres"])
async def test_wrong_names_are_said_without_secrets(postgres: PostgresForTests, part: str) -> None:
    url = postgres.url.replace("postgres:@/postgres", f"nobody:very-secret@{part}")
    async with running(settings_for(url), SearchApp, "search") as server:
        reason = server.runtime.health.reason()
        assert reason.startswith("store: the database")
        assert "very-secret" not in reason


def test_unavailable_is_an_error_with_a_delay() -> None:
    from search_svc.postgres.faults import translate

    error = translate(ConnectionRefusedError("secret"))
    assert isinstance(error, Unavailable)
    assert "secret" not in error.message
    assert translate(ValueError("a bug")) is None
