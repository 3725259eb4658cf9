"""A server that turns read-only, and one that takes over: what health says, and writes that go on without a restart."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.process.server import running
from lensmesh_chassis.reasons import Reason
from search_svc.app import SERVICE, SearchApp
from search_svc.postgres.addresses import servers
from search_svc.store import StoreRefused
from search_svc.watch import WRITES
from tests.search.conftest import settings_for
from tests.search.support import Stub, create, item, listed, refused, upsert
from tests.support.postgres import PostgresForTests
from tests.support.tcp import tcp_server
from tests.support.waiting import until

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
PIDS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'lensmesh-search'"


@pytest.fixture(scope="module")
def second() -> Iterator[PostgresForTests]:
    """Another server, that takes over."""
    server = PostgresForTests()
    yield server
    server.remove()


@asynccontextmanager
async def read_only(url: str) -> AsyncIterator[asyncpg.Connection]:
    """The server takes no writes meanwhile. Gives a connection to look at it."""
    admin = await asyncpg.connect(url)
    try:
        await admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await admin.execute("SELECT pg_reload_conf()")
        yield admin
    finally:
        await admin.execute("SET default_transaction_read_only = off")
        await admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
        await admin.execute("SELECT pg_reload_conf()")
        await admin.close()


async def test_reads_go_on_and_writes_come_back_by_themselves(database_url: str) -> None:
    settings = settings_for(database_url, store_check_seconds=0.1)
    async with running(settings, SearchApp, "search") as server, open_channel(server.address) as channel:
        stub: Stub = search_pb2_grpc.SearchServiceStub(channel)
        checks = health_pb2_grpc.HealthStub(channel)

        async def status(name: str) -> int:
            found: int = (await checks.Check(health_pb2.HealthCheckRequest(service=name))).status
            return found

        async def writes_fail() -> bool:
            return bool(await status(WRITES) == health_pb2.HealthCheckResponse.NOT_SERVING)

        await create(stub)
        await upsert(stub, item("before"))
        assert not await writes_fail()
        async with read_only(database_url) as admin:
            old = {row["pid"] for row in await admin.fetch(PIDS)}
            await until(writes_fail)
            error = await refused(upsert(stub, item("during")), UNAVAILABLE, Reason.STORE_READ_ONLY)
            assert "takes no writes" in error.message
            assert error.retry_after_s is not None
            assert await status(SERVICE) == health_pb2.HealthCheckResponse.SERVING
            assert await listed(stub) == ["before"]
            info = await stub.GetInfo(search_pb2.GetInfoRequest())
            assert info.server.not_serving_reason.startswith("writes: store: the database takes no writes")

            async def are_closed() -> bool:
                return not old & {row["pid"] for row in await admin.fetch(PIDS)}

            await until(are_closed)

        async def writes_work() -> bool:
            return not await writes_fail()

        await until(writes_work)
        await upsert(stub, item("after"))
        assert await listed(stub) == ["after", "before"]


def socket_folder(url: str) -> str:
    return parse_qs(urlsplit(url).query)["host"][0]


async def test_the_writable_one_of_two_hosts_is_found(second: PostgresForTests, database_url: str) -> None:
    both = quote(f"{socket_folder(database_url)},{socket_folder(second.url)}", safe="/,")
    url = f"postgresql://postgres:@/postgres?host={both}&target_session_attrs=read-write"
    settings = settings_for(url, store_check_seconds=0.1)
    async with running(settings, SearchApp, "search") as server, open_channel(server.address) as channel:
        stub: Stub = search_pb2_grpc.SearchServiceStub(channel)
        async with read_only(database_url):
            # No restart, and the other one has to be prepared first.
            async def works() -> bool:
                try:
                    await create(stub)
                    await upsert(stub, item("there"))
                except grpc.aio.AioRpcError:
                    return False
                return True

            await until(works)
            admin = await asyncpg.connect(second.url)
            assert await admin.fetchval("SELECT count(*) FROM lensmesh.collections") == 1
            assert await admin.fetch(PIDS)
            await admin.close()


async def test_the_one_that_hangs_does_not_use_up_the_time(database_url: str) -> None:
    left = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        writer.transport.abort()
        left.set()

    folder = quote(socket_folder(database_url), safe="/")
    async with tcp_server(hang) as port:
        url = f"postgresql://postgres:@/postgres?host=127.0.0.1,{folder}&port={port},5432&sslmode=disable"
        async with running(settings_for(url, store_connect_seconds=30), SearchApp, "search") as server:
            assert server.runtime.health.reason() == ""
        # It was given up before its time, not waited for.
        await asyncio.wait_for(left.wait(), 60)


URLS = {
    "postgresql://u:p@h/d": (["postgresql://u:p@h/d"], "any"),
    "postgresql://u:p@h1:1,h2:2/d?sslmode=require": (
        ["postgresql://u:p@h1:1/d?sslmode=require", "postgresql://u:p@h2:2/d?sslmode=require"],
        "read-write",
    ),
    "postgresql://u@h1,h2/d?target_session_attrs=any&port=7": (
        ["postgresql://u@h1/d?port=7", "postgresql://u@h2/d?port=7"],
        "any",
    ),
    "postgresql:///d?host=/a,/b&port=1,2&target_session_attrs=standby": (
        ["postgresql:///d?host=%2Fa&port=1", "postgresql:///d?host=%2Fb&port=2"],
        "standby",
    ),
    "postgresql://u@[::1]:5/d": (["postgresql://u@[::1]:5/d"], "any"),
}


@pytest.mark.parametrize("url", URLS)
def test_the_hosts_of_a_url(url: str) -> None:
    assert servers(url) == URLS[url]


@pytest.mark.parametrize("query", ["target_session_attrs=secret", "host=a,b&port=1,2,3"])
def test_a_url_that_cannot_be_is_refused_without_its_words(query: str) -> None:
    with pytest.raises(StoreRefused) as caught:
        servers(f"postgresql://u:secret@/d?{query}")
    assert "secret" not in str(caught.value)
