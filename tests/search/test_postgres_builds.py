"""Builds of indexes in PostgreSQL: beside reads and writes, and past whatever ends in the middle."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest

from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.process.server import running
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from search_svc.app import SearchApp
from tests.search.builds import VECTORS, build, built, filled, is_exact, uses_index
from tests.search.conftest import settings_for
from tests.search.processes import search_process
from tests.search.servers import Proxy
from tests.search.support import Stub, found, index_status, item, search_request, upsert
from tests.support.postgres import PostgresForTests
from tests.support.waiting import until

RUNNING = "SELECT count(*) FROM pg_stat_progress_create_index WHERE datname = current_database()"
GRAPHS = """
    SELECT c.oid, i.indisvalid FROM pg_class AS c
    JOIN pg_index AS i ON i.indexrelid = c.oid JOIN pg_am AS a ON a.oid = c.relam
    WHERE a.amname = 'hnsw' AND c.relnamespace = to_regnamespace('lensmesh')
"""


@asynccontextmanager
async def searching(url: str, **options: Any) -> AsyncIterator[Stub]:
    """The service on a database, which it looks at twenty times a second."""
    async with (
        running(settings_for(url, store_check_seconds=0.05, **options), SearchApp, "search") as server,
        open_channel(server.address) as channel,
    ):
        yield search_pb2_grpc.SearchServiceStub(channel)


class Held:
    """A writer that does not finish: what builds an index on its table waits for it, in the middle.

    A transaction sees what runs as it was at its first look, so another connection looks.
    """

    def __init__(self, writer: asyncpg.Connection, watcher: asyncpg.Connection) -> None:
        self._writer = writer
        self.watcher = watcher

    async def release(self) -> None:
        await self._writer.execute("ROLLBACK")

    async def building(self) -> bool:
        return bool(await self.watcher.fetchval(RUNNING))

    async def graphs(self) -> list[tuple[int, bool]]:
        return [tuple(row) for row in await self.watcher.fetch(GRAPHS)]


@asynccontextmanager
async def held(url: str) -> AsyncIterator[Held]:
    writer, watcher = await asyncpg.connect(url), await asyncpg.connect(url)
    try:
        table = await writer.fetchval("SELECT relname FROM pg_class WHERE relname ~ '^vectors_[0-9]+_0$'")
        await writer.execute(f"BEGIN; LOCK TABLE lensmesh.{table} IN ROW EXCLUSIVE MODE")
        yield Held(writer, watcher)
    finally:
        writer.terminate()
        watcher.terminate()


async def half_built(stub: Stub, writer: Held) -> None:
    """Begins a build, and returns in the middle of it."""
    await build(stub)
    await until(writer.building)
    assert (await index_status(stub)).state == search_pb2.INDEX_STATE_BUILDING


async def test_searches_and_writes_go_on_meanwhile(database_url: str) -> None:
    async with searching(database_url) as stub:
        nearest = await filled(stub)
        async with held(database_url) as writer:
            await half_built(stub, writer)
            assert await found(stub, search_request(VECTORS[7], limit=20)) == nearest
            assert await is_exact(stub)
            await upsert(stub, item("meanwhile", VECTORS[7]), item("i007"))
            assert await found(stub, search_request(VECTORS[7], limit=20)) == ["meanwhile", *nearest[1:]]
            assert (await index_status(stub)).progress < 1
            await writer.release()
            await until(lambda: built(stub))
        await until(lambda: uses_index(stub))
        # By the graph, which got what came in the middle.
        assert await found(stub, search_request(VECTORS[7], limit=20)) == ["meanwhile", *nearest[1:]]


async def test_items_are_looked_at_behind_a_build(database_url: str) -> None:
    watcher = await asyncpg.connect(database_url)

    async def looked_at() -> bool:
        counts = "SELECT sum(vacuum_count * analyze_count) FROM pg_stat_user_tables WHERE relname ~ '^items_'"
        return bool(await watcher.fetchval(counts))

    async with searching(database_url) as stub:
        await filled(stub)
        await build(stub)
        await until(lambda: built(stub))
        # An index that has all that a search wants does without the items only then.
        await until(looked_at)
    await watcher.close()


async def test_one_of_several_replicas_builds(database_url: str) -> None:
    async with searching(database_url) as stub, searching(database_url) as other:
        await filled(stub)
        assert await is_exact(other)
        async with held(database_url) as writer:
            await half_built(stub, writer)
            await asyncio.gather(*(build(each) for each in (stub, other) for _ in range(5)))
            # The other one has looked several times by then.
            await asyncio.sleep(0.3)
            assert await writer.watcher.fetchval(RUNNING) == 1
            await writer.release()
            await until(lambda: built(other))
            assert [is_valid for _, is_valid in await writer.graphs()] == [True]
        await until(lambda: uses_index(other))


async def test_what_a_build_that_broke_left_is_built_anew(database_url: str) -> None:
    async with searching(database_url) as stub:
        await filled(stub)
        async with held(database_url) as writer:
            await half_built(stub, writer)
            [(left, is_valid)] = await writer.graphs()
            assert not is_valid
            await writer.watcher.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_progress_create_index")

            async def failed() -> bool:
                return (await index_status(stub)).HasField("error")

            await until(failed)
            await writer.release()
            await until(lambda: built(stub))
            [(graph, is_valid)] = await writer.graphs()
            assert is_valid
            assert graph != left


def nothing_runs(watcher: asyncpg.Connection) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return not await watcher.fetchval(RUNNING)

    return look


async def test_a_network_that_is_cut_in_silence_keeps_nobody_waiting(
    postgres: PostgresForTests, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = Proxy(postgres.socket)
    await proxy.listen()
    url = f"postgresql://postgres:@127.0.0.1:{proxy.port}/postgres?sslmode=disable"
    try:
        async with searching(url, store_connect_seconds=0.5) as stub:
            await filled(stub)
            async with held(database_url) as writer:
                await half_built(stub, writer)
                proxy.flowing.clear()

                await until(lambda: "an index could not be built" in caplog.text)
                # The server is still at it, and who looks next leaves it alone.
                assert await writer.building()
                proxy.flowing.set()
                await writer.release()

            async def is_built() -> bool:
                try:
                    return await built(stub)
                except grpc.aio.AioRpcError:
                    return False

            await until(is_built)
    finally:
        await proxy.cut()


async def test_removing_a_collection_does_not_wait_for_its_build(database_url: str) -> None:
    async with searching(database_url) as stub:
        await filled(stub)
        reader, watcher = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
        # Something else that the build waits for, and that a removal need not.
        await reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM lensmesh.collections")
        await build(stub)
        await until(lambda: watcher.fetchval(RUNNING))
        answer = await stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name="pictures"))
        assert answer.deleted_count == len(VECTORS)
        await until(nothing_runs(watcher))
        reader.terminate()
        watcher.terminate()
        # And the next one of its name is nobody's work.
        await filled(stub)
        assert (await index_status(stub)).state == search_pb2.INDEX_STATE_DEFERRED


async def test_a_full_disk_is_told_and_it_is_tried_again(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        """
        CREATE OR REPLACE FUNCTION public.no_room() RETURNS event_trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END $$;
        """
    )
    try:
        async with searching(database_url) as stub:
            await filled(stub)
            await connection.execute(
                "CREATE EVENT TRIGGER no_room ON ddl_command_start WHEN TAG IN ('CREATE INDEX')"
                " EXECUTE FUNCTION public.no_room()"
            )
            await build(stub)

            async def failed() -> bool:
                return (await index_status(stub)).HasField("error")

            await until(failed)
            status = await index_status(stub)
            assert status.state == search_pb2.INDEX_STATE_BUILDING
            assert from_status(status.error).reason is Reason.STORE_FULL
            assert await is_exact(stub)
            await connection.execute("DROP EVENT TRIGGER no_room")
            await until(lambda: built(stub))
            assert not (await index_status(stub)).HasField("error")
    finally:
        await connection.execute("DROP EVENT TRIGGER IF EXISTS no_room; DROP FUNCTION public.no_room")
        await connection.close()


async def test_little_shared_memory_is_no_full_disk(database_url: str) -> None:
    """A container gives 64 MB of it unless told otherwise: helpers would need more."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        """
        CREATE OR REPLACE FUNCTION public.no_room() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
            IF current_setting('max_parallel_maintenance_workers') <> '0' THEN
                RAISE EXCEPTION 'could not resize shared memory segment "/PostgreSQL.1": No space left on device'
                    USING ERRCODE = 'disk_full';
            END IF;
        END $$;
        """
    )
    try:
        async with searching(database_url) as stub:
            await filled(stub)
            await connection.execute(
                "CREATE EVENT TRIGGER no_room ON ddl_command_start WHEN TAG IN ('CREATE INDEX')"
                " EXECUTE FUNCTION public.no_room()"
            )
            await build(stub)
            await until(lambda: built(stub))
            assert not (await index_status(stub)).HasField("error")
    finally:
        await connection.execute("DROP EVENT TRIGGER IF EXISTS no_room; DROP FUNCTION public.no_room")
        await connection.close()


async def test_a_build_goes_on_when_search_is_killed(database_url: str, tmp_path: Path) -> None:
    async with search_process(database_url, tmp_path) as search:
        await filled(search.stub)
        async with held(database_url) as writer:
            await half_built(search.stub, writer)
            [(graph, _)] = await writer.graphs()
            search.process.kill()
            await search.process.wait()
            async with searching(database_url) as stub:
                assert (await index_status(stub)).state == search_pb2.INDEX_STATE_BUILDING
                assert await is_exact(stub)
                await writer.release()
                await until(lambda: built(stub))
            # The very index that the killed one began.
            assert await writer.graphs() == [(graph, True)]


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresForTests]:
    """A server that a test may kill."""
    server = PostgresForTests()
    yield server
    server.remove()


async def test_a_build_is_done_anew_when_postgresql_is_killed(own_server: PostgresForTests) -> None:
    async with searching(own_server.url) as stub:
        nearest = await filled(stub)
        async with held(own_server.url) as writer:
            await half_built(stub, writer)
            await asyncio.to_thread(own_server.kill)
        await asyncio.to_thread(own_server.start)

        async def is_built() -> bool:
            try:
                return await built(stub)
            except grpc.aio.AioRpcError:
                return False

        await until(is_built)
        connection = await asyncpg.connect(own_server.url)
        assert [row["indisvalid"] for row in await connection.fetch(GRAPHS)] == [True]
        await connection.close()
        assert await found(stub, search_request(VECTORS[7], limit=20)) == nearest
