"""Jobs past the end of a process, a replica that stands still, and a store that is away."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import grpc
import pytest

from lensmesh.search.v1 import search_pb2
from search_svc.app import make_store
from search_svc.filters import All
from search_svc.jobs.model import JobProgress, Lease, NewJob
from search_svc.jobs.store import LeasedWrite, LeaseLost
from search_svc.store import Store
from tests.search.conftest import settings_for
from tests.search.gates import LEASE, Gate, replica
from tests.search.jobs import ended, filled, get, start
from tests.search.processes import search_process
from tests.search.servers import Proxy
from tests.search.standin import StandIn
from tests.search.support import definition, domain_item, listed
from tests.support.postgres import PostgresForTests
from tests.support.waiting import until

SUCCEEDED, RUNNING = search_pb2.JOB_STATE_SUCCEEDED, search_pb2.JOB_STATE_RUNNING
# More than two batches.
COUNT = 1100


@pytest.fixture
async def gate(database_url: str) -> AsyncIterator[Gate]:
    connection = await asyncpg.connect(database_url)
    yield Gate(connection)
    connection.terminate()


@pytest.mark.parametrize(
    "phase",
    [
        # It is taken, and has counted what there is to do.
        "NEW.state = 'running' AND NEW.total > 0 AND NEW.done = 0 AND NEW.checkpoint <> OLD.checkpoint",
        # It removes its second batch.
        "NEW.done = 1000 AND OLD.done = 500",
        # All is removed, and is yet to be told.
        "NEW.state = 'succeeded'",
    ],
)
async def test_a_killed_worker_is_succeeded(database_url: str, gate: Gate, tmp_path: Path, phase: str) -> None:
    async with search_process(database_url, tmp_path, **LEASE) as first:
        await filled(first.stub, COUNT)
        await gate.close(phase)
        job_id = (await start(first.stub)).id
        await until(gate.is_reached)
        first.process.kill()
        await first.process.wait()
    await gate.open()
    async with replica(database_url) as stub:
        job = await ended(stub, job_id)
        assert (job.state, job.attempt_count) == (SUCCEEDED, 2)
        # Each item once, whoever removed it.
        assert (job.done_count, job.total_count, job.delete_items_result.deleted_count) == (COUNT, COUNT, COUNT)
        assert await listed(stub) == []


async def test_a_replica_that_stood_still_does_nothing_beside_its_successor(
    database_url: str, gate: Gate, tmp_path: Path
) -> None:
    async with search_process(database_url, tmp_path, **LEASE) as late, replica(database_url, job_parallel=0) as stub:
        await filled(stub, COUNT)
        # Each step pauses as long as it takes: so it is stopped between two.
        await gate.close("NEW.done = 500 AND OLD.done = 0")
        job_id = (await start(late.stub)).id
        await until(gate.is_reached)
        os.kill(late.process.pid, signal.SIGSTOP)
        try:
            await gate.open()
            async with replica(database_url):
                job = await ended(stub, job_id)
                assert (job.state, job.attempt_count) == (SUCCEEDED, 2)
            before = job
            # What comes now is nobody's to remove.
            await filled(stub, COUNT, create_it=False)
        finally:
            os.kill(late.process.pid, signal.SIGCONT)

        async def looked() -> bool:
            return "another replica's by now" in (tmp_path / "log").read_text()

        await until(looked)
        assert await get(stub, job_id) == before
        assert len(await listed(stub)) == COUNT


async def test_a_drained_replica_hands_its_job_on_at_once(database_url: str, tmp_path: Path) -> None:
    async with search_process(database_url, tmp_path, job_lease_seconds="3600") as first:
        await filled(first.stub, COUNT)
        job_id = (await start(first.stub)).id

        async def is_begun() -> bool:
            return (await get(first.stub, job_id)).done_count > 0

        await until(is_begun)
        first.process.terminate()
        await first.process.wait()
    async with replica(database_url) as stub:
        # Long before the lease would run out.
        job = await ended(stub, job_id)
        assert (job.state, job.delete_items_result.deleted_count) == (SUCCEEDED, COUNT)


async def test_a_database_that_is_away_and_comes_back(
    postgres: PostgresForTests, database_url: str, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search_svc.jobs.attempt._PAUSES_S", (0.05, 0.2))
    proxy = Proxy(postgres.socket)
    await proxy.listen()
    url = f"postgresql://postgres:@127.0.0.1:{proxy.port}/postgres?sslmode=disable"
    try:
        # Nobody else takes it up meanwhile.
        async with replica(url, job_lease_seconds=3600) as stub, replica(database_url, job_parallel=0) as other:
            await filled(stub, COUNT)
            await gate.close("NEW.done = 500 AND OLD.done = 0")
            job_id = (await start(stub)).id
            await until(gate.is_reached)
            await proxy.cut()
            await gate.open()
            await asyncio.sleep(1)
            assert (await get(other, job_id)).state == RUNNING
            await proxy.listen()
            job = await ended(other, job_id)
            assert (job.state, job.attempt_count) == (SUCCEEDED, 1)
            assert job.delete_items_result.deleted_count == COUNT
    finally:
        await proxy.cut()


async def test_a_qdrant_that_is_away_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search_svc.jobs.attempt._PAUSES_S", (0.02, 0.05))
    standin = StandIn()
    await standin.start()
    try:
        async with replica(standin.url()) as stub:
            await filled(stub, COUNT)
            standin.failing = {"Delete": grpc.StatusCode.UNAVAILABLE}
            job_id = (await start(stub)).id

            async def waits() -> bool:
                return (await get(stub, job_id)).message == "waits: Qdrant is not reachable"

            await until(waits)
            await standin.stop()
            standin.failing = {}
            await asyncio.sleep(0.2)
            await standin.start()
            job = await ended(stub, job_id)
            assert (job.state, job.attempt_count) == (SUCCEEDED, 1)
            assert job.delete_items_result.deleted_count == COUNT
            assert standin.careless == []
    finally:
        await standin.remove()


async def test_a_worker_that_is_killed_on_qdrant_is_succeeded(tmp_path: Path) -> None:
    """While it notes what it has removed."""
    standin = StandIn()
    await standin.start()
    try:
        async with search_process(standin.url(), tmp_path, **LEASE) as first:
            await filled(first.stub, COUNT)
            standin.calls.clear()
            job_id = (await start(first.stub)).id
            await until(lambda: "Delete" in standin.calls)
            standin.holding = {"SetPayload"}
            await until(lambda: standin.held)
            first.process.kill()
            await first.process.wait()
        standin.holding = set()
        async with replica(standin.url()) as stub:
            job = await ended(stub, job_id)
            assert (job.state, job.attempt_count) == (SUCCEEDED, 2)
            assert await listed(stub) == []
    finally:
        await standin.remove()


async def test_a_lease_that_was_lost_between_two_steps_in_qdrant() -> None:
    """What is looked at before each step: a replica that stood still removes nothing."""
    standin = StandIn()
    await standin.start()
    late, other = (make_store(settings_for(standin.url())) for _ in range(2))
    try:
        await late.open()
        await other.open()
        collection = (await late.create_collection(definition(), timeout_s=60)).collection
        await late.upsert(collection, [domain_item(f"{i}") for i in range(3)], timeout_s=60)
        await late.jobs.start(NewJob("one", "delete_items", "pictures", collection.key, "{}"), timeout_s=60)
        first = await late.jobs.take(["delete_items"], lease_s=0, timeout_s=60)
        second = await other.jobs.take(["delete_items"], lease_s=60, timeout_s=60)
        assert first is not None
        assert second is not None
        everything = All(())

        async def step(store: Store, lease: Lease) -> int:
            write = LeasedWrite(lease, lambda batch: JobProgress(batch.count))
            batch = await store.delete_batch(collection, everything, after="", count=2, within=write, timeout_s=60)
            return batch.count

        with pytest.raises(LeaseLost):
            await step(late, first.lease)
        assert (await late.count_items(collection, timeout_s=60)).item_count == 3
        assert await step(other, second.lease) == 2
        assert (await late.count_items(collection, timeout_s=60)).item_count == 1
    finally:
        await late.close()
        await other.close()
        await standin.remove()
