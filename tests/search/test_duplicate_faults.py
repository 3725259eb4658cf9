"""Finding duplicates past the end of a process in each phase, two replicas, and a store that is away."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from lensmesh.search.v1 import search_pb2
from search_svc.jobs import find_duplicates
from tests.search.duplicates import find, hashed, ids
from tests.search.gates import LEASE, Gate, replica
from tests.search.jobs import cancel, ended, get
from tests.search.near_hashes import hash_of
from tests.search.processes import search_process
from tests.search.servers import Proxy
from tests.search.support import Stub, create, upsert
from tests.support.postgres import PostgresForTests
from tests.support.waiting import until

SUCCEEDED, RUNNING = search_pb2.JOB_STATE_SUCCEEDED, search_pb2.JOB_STATE_RUNNING
COUNT = 60
GROUPS = [[f"i{n:03}" for n in range(COUNT)]]


async def filled(stub: Stub) -> None:
    """Items of one look."""
    await create(stub)
    await upsert(stub, *(hashed(f"i{n:03}", hash_of(1)) for n in range(COUNT)))


@pytest.fixture
async def gate(database_url: str) -> AsyncIterator[Gate]:
    connection = await asyncpg.connect(database_url)
    yield Gate(connection)
    connection.terminate()


PHASES = [
    # It is about to read, to compare, to write the groups, and to end.
    "NEW.message = 'reading hashes'",
    "NEW.message = 'comparing hashes'",
    "NEW.message = '' AND OLD.message <> '' AND NEW.state = 'running'",
    "NEW.state = 'succeeded'",
]


@pytest.mark.parametrize("phase", PHASES)
async def test_a_killed_worker_is_succeeded(
    database_url: str, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    monkeypatch.setattr(find_duplicates, "PART_ITEMS", 7)
    async with search_process(database_url, tmp_path, **LEASE) as first:
        await filled(first.stub)
        await gate.close(phase)
        job_id = (await find(first.stub)).id
        await until(gate.is_reached)
        first.process.kill()
        await first.process.wait()
    await gate.open()
    async with replica(database_url) as stub:
        job = await ended(stub, job_id)
        assert (job.state, job.attempt_count, job.find_duplicates_result.item_count) == (SUCCEEDED, 2, COUNT)
        assert await ids(stub, job_id) == GROUPS
    rows = await gate.count("SELECT count(DISTINCT token) FROM lensmesh.job_parts")
    assert rows == 1


async def test_a_replica_that_stood_still_writes_nothing_beside_its_successor(
    database_url: str, gate: Gate, tmp_path: Path
) -> None:
    async with search_process(database_url, tmp_path, **LEASE) as late, replica(database_url, job_parallel=0) as stub:
        await filled(stub)
        await gate.close("NEW.message = 'comparing hashes'")
        job_id = (await find(late.stub)).id
        await until(gate.is_reached)
        os.kill(late.process.pid, signal.SIGSTOP)
        try:
            await gate.open()
            async with replica(database_url):
                before = await ended(stub, job_id)
                assert (before.state, before.attempt_count) == (SUCCEEDED, 2)
        finally:
            os.kill(late.process.pid, signal.SIGCONT)

        async def looked() -> bool:
            return "another replica's by now" in (tmp_path / "log").read_text()

        await until(looked)
        assert await get(stub, job_id) == before
        assert await ids(stub, job_id) == GROUPS


async def test_a_database_that_is_away_and_comes_back(
    postgres: PostgresForTests, database_url: str, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search_svc.jobs.attempt._PAUSES_S", (0.05, 0.2))
    proxy = Proxy(postgres.socket)
    await proxy.listen()
    url = f"postgresql://postgres:@127.0.0.1:{proxy.port}/postgres?sslmode=disable"
    try:
        async with replica(url, job_lease_seconds=3600) as stub, replica(database_url, job_parallel=0) as other:
            await filled(stub)
            await gate.close("NEW.message = 'comparing hashes'")
            job_id = (await find(stub)).id
            await until(gate.is_reached)
            await proxy.cut()
            await gate.open()
            await asyncio.sleep(0.5)
            assert (await get(other, job_id)).state == RUNNING
            await proxy.listen()
            job = await ended(other, job_id)
            assert (job.state, job.attempt_count) == (SUCCEEDED, 1)
            assert await ids(other, job_id) == GROUPS
    finally:
        await proxy.cut()


async def test_of_two_replicas_one_finds(database_url: str) -> None:
    async with replica(database_url) as stub, replica(database_url):
        await filled(stub)
        jobs = [await find(stub, f"j{n}") for n in range(3)]
        for job in jobs:
            done = await ended(stub, job.id)
            assert (done.state, done.attempt_count) == (SUCCEEDED, 1)
            assert await ids(stub, job.id) == GROUPS


async def test_a_job_is_cancelled_while_it_compares_and_leaves_nothing(
    database_url: str, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search_svc.jobs.attempt._RENEW_S", 0.02)
    # It never ends by itself.
    monkeypatch.setattr(find_duplicates, "_slice", lambda _: 0.5)
    async with replica(database_url) as stub:
        await filled(stub)
        job_id = (await find(stub)).id

        async def compares() -> bool:
            return (await get(stub, job_id)).message == "comparing hashes"

        await until(compares)
        for _ in range(2):
            await cancel(stub, job_id)
        assert (await ended(stub, job_id)).state == search_pb2.JOB_STATE_CANCELLED
    assert await gate.count("SELECT count(*) FROM lensmesh.job_parts") == 0


async def test_a_job_that_ends_its_worker_each_time_is_given_up(database_url: str, gate: Gate) -> None:
    """Progress of an attempt that begins anew is none: else a job that takes too much memory would go on for ever."""
    async with replica(database_url, job_parallel=0) as stub:
        await filled(stub)
        job_id = (await find(stub)).id
        await gate.run("UPDATE lensmesh.jobs SET idle_attempts = 4")
    async with replica(database_url) as stub:
        assert (await ended(stub, job_id)).state == SUCCEEDED
    assert await gate.count("SELECT idle_attempts FROM lensmesh.jobs") == 5
