"""A replica that is stopped inside a write: others go on, and nothing of it overtakes them when it wakes."""

import asyncio
import os
import signal
from pathlib import Path

import asyncpg
import grpc

from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import OWN_CONNECTIONS, open_channel
from lensmesh_chassis.process.server import running
from search_svc.app import SearchApp
from tests.search.conftest import settings_for
from tests.search.processes import search_process
from tests.search.support import Stub, create, item, outcome, upsert
from tests.support.waiting import until

IDLE_S = 1.0
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid))"


async def test_a_stopped_replica_keeps_nothing_and_overtakes_nobody(database_url: str, tmp_path: Path) -> None:
    async with (
        search_process(database_url, tmp_path, store_idle_seconds=str(IDLE_S)) as a,
        # Only the one that is stopped has to be a process.
        running(settings_for(database_url, store_idle_seconds=IDLE_S), SearchApp, "search") as server,
        open_channel(server.address) as to_b,
        # Not one of ours, which would send the call again.
        grpc.aio.insecure_channel(a.address, [("grpc.enable_retries", 0), OWN_CONNECTIONS]) as channel,
    ):
        b: Stub = search_pb2_grpc.SearchServiceStub(to_b)
        await create(a.stub)
        await upsert(a.stub, item("one", image_uri="first"))
        locker = await asyncpg.connect(database_url)
        table = await locker.fetchval("SELECT relname FROM pg_class WHERE relname LIKE 'items%' AND relkind = 'r'")
        transaction = locker.transaction()
        await transaction.start()
        await locker.execute(f"SELECT 1 FROM lensmesh.{table} FOR UPDATE")
        request = search_pb2.UpsertItemsRequest(collection="pictures", items=[item("one", image_uri="by A")])
        write = asyncio.ensure_future(outcome(search_pb2_grpc.SearchServiceStub(channel).UpsertItems(request)))

        async def a_waits() -> bool:
            # For this row: replicas wait for other locks as well, which say nothing of the write.
            return await _one(database_url, WAITING, locker.get_server_pid()) > 0

        await until(a_waits)
        os.kill(a.process.pid, signal.SIGSTOP)
        try:
            # Now its statement runs, and it has the row; nobody is there to go on.
            await transaction.rollback()
            assert await upsert(b, item("one", image_uri="by B")) == [search_pb2.UPSERT_OUTCOME_UPDATED]
        finally:
            os.kill(a.process.pid, signal.SIGCONT)
        assert await write == grpc.StatusCode.UNAVAILABLE
        got = await b.GetItems(search_pb2.GetItemsRequest(collection="pictures", ids=["one"]))
        assert got.items[0].image_uri == "by B"
        await locker.close()

        async def a_writes() -> bool:
            try:
                return bool(await upsert(a.stub, item("two")))
            except grpc.aio.AioRpcError:
                return False

        await until(a_writes)


async def _one(url: str, statement: str, *values: object) -> int:
    connection = await asyncpg.connect(url)
    try:
        found: int = await connection.fetchval(statement, *values)
        return found
    finally:
        await connection.close()
