"""PostgreSQL behind a real PgBouncer: what works, what is refused in which words, and waits that end."""

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.process.server import RunningServer, running
from lensmesh_chassis.reasons import Reason
from search_svc.app import SearchApp
from tests.search.conftest import settings_for
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
from tests.support.postgres import PostgresForTests
from tests.support.tools import need
from tests.support.waiting import until

Behind = Callable[..., AbstractAsyncContextManager[tuple[Stub, RunningServer]]]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start_bouncer(stack: ExitStack, postgres: PostgresForTests, **settings: object) -> str:
    """A pooler before the server; answers the URL through it, with the user that runs the server as its own."""
    program = need("pgbouncer")
    folder = Path(tempfile.mkdtemp(prefix="lensmesh-pgb-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    server_socket = Path(postgres.socket)
    owner = server_socket.stat().st_uid
    port = _free_port()
    options = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "trust",
        "auth_file": folder / "users",
        "logfile": folder / "log",
        "server_login_retry": 1,
        **settings,
    }
    (folder / "users").write_text('"postgres" ""\n')
    lines = "".join(f"{key} = {value}\n" for key, value in options.items())
    (folder / "ini").write_text(f"[databases]\n* = host={server_socket.parent}\n[pgbouncer]\n{lines}")
    command = [str(program), "--quiet", str(folder / "ini")]
    if os.geteuid() == 0:
        # It refuses root.
        os.chown(folder, owner, owner)
        command[1:1] = ["--user", pwd.getpwuid(owner).pw_name]
    process = subprocess.Popen(command)

    def end() -> None:
        process.terminate()
        process.wait(60)

    stack.callback(end)
    return f"postgresql://postgres:@127.0.0.1:{port}/postgres?sslmode=disable"


@pytest.fixture
def behind(postgres: PostgresForTests, database_url: str) -> Iterator[Behind]:
    """Starts search behind a pooler: `async with behind("transaction", pool=2, pool_size=4) as (stub, server)`."""
    with ExitStack() as stack:

        @asynccontextmanager
        async def start(mode: str, pool: int, query: str = "", **options: Any) -> AsyncIterator[tuple[Stub, Any]]:
            url = start_bouncer(stack, postgres, pool_mode=mode, default_pool_size=pool) + query
            await until(lambda: _listens(url))
            settings = settings_for(url, store_check_seconds=0.1, **options)
            async with running(settings, SearchApp, "search") as server, open_channel(server.address) as channel:
                yield search_pb2_grpc.SearchServiceStub(channel), server

        yield start


async def _listens(url: str) -> bool:
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.split("127.0.0.1:")[1].split("/")[0]))
        writer.close()
        return True
    return False


@pytest.mark.parametrize(("mode", "pool"), [("transaction", 2), ("session", 6)])
async def test_everything_works_behind_it(behind: Behind, mode: str, pool: int) -> None:
    async with behind(mode, pool, pool_size=5) as (stub, server):
        assert server.runtime.health.reason() == ""
        await create(stub, collection(indexes={"n": search_pb2.FIELD_TYPE_NUMBER}))
        # More at a time than a pooler's servers, so that transactions change them.
        captions = [common_pb2.Caption(text=f"dogs {i}") for i in range(12)]
        writes = [upsert(stub, item(f"{i}", [1, i, 0, 0], {"n": i % 2}, caption=captions[i])) for i in range(12)]
        assert await asyncio.gather(*writes) == [[search_pb2.UPSERT_OUTCOME_CREATED]] * 12
        searches = [found(stub, search_request([1, 0, 0, 0], limit=1)) for _ in range(12)]
        assert await asyncio.gather(*searches) == [["0"]] * 12
        fused = search_request(
            [1, 0, 0, 0], group_by=search_pb2.GroupBy(fields=["n"]), diversity=search_pb2.Diversity()
        )
        fused.legs.add(name="like", item_id="1")
        assert await asyncio.gather(*(found(stub, fused) for _ in range(12))) == [["2", "3"]] * 12
        words = search_pb2.SearchRequest(collection="pictures", legs=[search_pb2.SearchLeg(caption_text="7 dog")])
        assert [each[0] for each in await asyncio.gather(*(found(stub, words) for _ in range(12)))] == ["7"] * 12
        await stub.CountFacets(search_pb2.CountFacetsRequest(collection="pictures", fields=["n"]))
        assert (await stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name="pictures"))).deleted_count == 12


@pytest.mark.parametrize(("mode", "pool"), [("transaction", 3), ("session", 4)])
async def test_an_index_is_built_behind_it(behind: Behind, mode: str, pool: int) -> None:
    async with behind(mode, pool, pool_size=1) as (stub, _):
        # A build is more than one transaction, and keeps a lock meanwhile.
        later = collection("later", named_space(deferred=search_pb2.DeferredBuild()))
        await create(stub, later)
        await upsert(stub, item("a", [1, 0, 0, 0]), into="later")
        await stub.BuildIndexes(search_pb2.BuildIndexesRequest(collection="later"))

        async def built() -> bool:
            return (await index_status(stub, "later")).state == search_pb2.INDEX_STATE_BUILT

        await until(built)


async def test_too_few_connections_are_an_error_in_time_and_health_says_so(behind: Behind) -> None:
    async with behind("session", 2, pool_size=4, store_connect_seconds=1) as (stub, server):
        # The watch has one, this the other.
        holder = await asyncpg.connect(server.runtime.settings.store_url.get_secret_value())
        await holder.execute("SELECT 1")

        async def says() -> bool:
            return "default_pool_size" in server.runtime.health.reason()

        calls = [refused(create(stub), grpc.StatusCode.UNAVAILABLE, Reason.STORE_UNAVAILABLE) for _ in range(4)]
        errors = await asyncio.wait_for(asyncio.gather(*calls), 60)
        assert all(error.retry_after_s is not None for error in errors)
        await until(says)
        await holder.close()

        async def works() -> bool:
            return server.runtime.health.reason() == ""

        await until(works)
        await create(stub)


REFUSED = {
    "statement": ("statement", "", "pool_mode = transaction"),
    "startup": ("transaction", "&work_mem=1MB", "ignore_startup_parameters = work_mem"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_cannot_work_is_refused_with_the_setting_to_change(behind: Behind, case: str) -> None:
    mode, query, fix = REFUSED[case]
    async with behind(mode, 2, query) as (stub, server):
        assert fix in server.runtime.health.reason()
        error = await refused(create(stub), grpc.StatusCode.UNAVAILABLE, Reason.STORE_UNAVAILABLE)
        assert error.message
