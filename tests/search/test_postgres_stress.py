"""PostgreSQL under stress: what is promised of it alone, and what only its locks can show."""

import asyncio

import asyncpg
import grpc
import pytest

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import DeadlineExceeded
from lensmesh_chassis.reasons import Reason
from search_svc.model import Item
from search_svc.store import Store
from tests.search.conftest import Serve
from tests.search.support import Stub, create, definition, item, listed, outcome, search_request, upsert
from tests.support.waiting import until

# For whoever has a lock: others wait for other locks as well.
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid))"


@pytest.fixture
def store_url(database_url: str) -> str:
    """PostgreSQL alone."""
    return database_url


async def test_a_caller_that_leaves_writes_nothing(stub: Stub, database_url: str) -> None:
    await create(stub)
    await upsert(stub, item("a"))
    locker = await asyncpg.connect(database_url)
    watcher = await asyncpg.connect(database_url)
    table = await locker.fetchval("SELECT relname FROM pg_class WHERE relname LIKE 'items%' AND relkind = 'r'")

    async def waiting() -> bool:
        return bool(await watcher.fetchval(WAITING, locker.get_server_pid()))

    async def nobody_waits() -> bool:
        return not await waiting()

    async with locker.transaction():
        await locker.execute(f"LOCK TABLE lensmesh.{table}")
        call = stub.UpsertItems(search_pb2.UpsertItemsRequest(collection="pictures", items=[item("b")]))
        task = asyncio.ensure_future(outcome(call))
        await until(waiting)
        call.cancel()
        # The server's query ends too, though what it waits for is still locked.
        await until(nobody_waits)
        assert await task == grpc.StatusCode.CANCELLED
    assert await listed(stub) == ["a"]
    await locker.close()
    await watcher.close()


async def test_the_deadline_is_the_databases_too(store: Store, database_url: str) -> None:
    made = (await store.create_collection(definition(), timeout_s=60)).collection
    locker = await asyncpg.connect(database_url)
    async with locker.transaction():
        await locker.execute(f"LOCK TABLE lensmesh.items_{made.key}")
        with pytest.raises(DeadlineExceeded) as caught:
            await store.upsert(made, [Item("a")], timeout_s=0.3)
        assert caught.value.reason is Reason.DEADLINE_EXCEEDED
        assert await locker.fetchval(WAITING, locker.get_server_pid()) == 0
    assert len(await store.upsert(made, [Item("a")], timeout_s=60)) == 1
    await locker.close()


async def test_a_deadline_passes_while_all_connections_are_taken(serve: Serve, database_url: str) -> None:
    async with serve(pool_size=1) as (stub, server):
        await create(stub)
        locker = await asyncpg.connect(database_url)
        table = await locker.fetchval("SELECT relname FROM pg_class WHERE relname LIKE 'items%' AND relkind = 'r'")
        async with locker.transaction():
            await locker.execute(f"LOCK TABLE lensmesh.{table}")
            request = search_pb2.ListItemsRequest(collection="pictures")
            calls = [stub.ListItems(request, timeout=0.5) for _ in range(5)]
            for call in calls:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            # A busy store is not a lost one.
            assert server.runtime.health.reason() == ""
        assert await listed(stub) == []
        await locker.close()


async def test_readers_see_a_call_whole(stub: Stub) -> None:
    await create(stub)
    done = asyncio.Event()

    async def write() -> None:
        for i in range(30):
            await upsert(stub, *(item(f"{k}", [1, i, 0, 0], {"n": i}) for k in range(20)))
        done.set()

    async def read() -> None:
        while not done.is_set():
            response = await stub.Search(search_request([1, 0, 0, 0], limit=100))
            assert len({hit.item.metadata["n"] for hit in response.hits}) <= 1

    await upsert(stub, *(item(f"{k}", [1, 0, 0, 0], {"n": 0}) for k in range(20)))
    await asyncio.gather(write(), read(), read())
