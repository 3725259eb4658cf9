"""Indexes that are built anew by a job: beside searches, past whatever ends in the middle, or not at all."""

import asyncio
from collections.abc import AsyncIterator, Iterable
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
from tests.search.builds import LATER, VECTORS, is_exact, uses_index
from tests.search.conftest import Serve, settings_for
from tests.search.gates import LEASE, Gate
from tests.search.jobs import cancel, ended, get
from tests.search.processes import search_process
from tests.search.standin import StandIn
from tests.search.support import Stub, collection, create, found, item, named_space, refused, search_request, upsert
from tests.support.waiting import until

INVALID = grpc.StatusCode.INVALID_ARGUMENT
SUCCEEDED, FAILED, CANCELLED = (
    search_pb2.JobState.Value(f"JOB_STATE_{name}") for name in ("SUCCEEDED", "FAILED", "CANCELLED")
)
GRAPHS = """
    SELECT c.relname, i.indisvalid, c.reloptions FROM pg_class AS c
    JOIN pg_index AS i ON i.indexrelid = c.oid JOIN pg_am AS a ON a.oid = c.relam
    WHERE a.amname = 'hnsw' AND c.relnamespace = to_regnamespace('lensmesh')
"""

# Those that wait for somebody.
DROPS = """
    FROM pg_stat_activity WHERE query LIKE 'DROP INDEX CONCURRENTLY%' AND cardinality(pg_blocking_pids(pid)) > 0
"""


async def rebuild(stub: Stub, m: int = 0, ef: int = 0, spaces: Iterable[str] = (), **fields: Any) -> str:
    """Starts it. Its id."""
    hnsw = search_pb2.HnswIndex(m=m, ef_construction=ef) if m or ef else None
    request = search_pb2.StartRebuildIndexesRequest(
        **{"collection": "pictures", "spaces": spaces, "hnsw": hnsw, **fields}
    )
    return (await stub.StartRebuildIndexes(request)).job.id


async def filled(stub: Stub, *spaces: search_pb2.NamedSpace) -> list[str]:
    """A collection; the ids of what is nearest to one of its items."""
    await create(stub, collection("pictures", *spaces))
    await upsert(stub, *(item(f"i{i:03}", vector) for i, vector in enumerate(VECTORS)))
    return await found(stub, search_request(VECTORS[7], limit=20))


async def parameters(stub: Stub) -> tuple[int, int]:
    """How the index of the first space is built, as callers see it."""
    answer = await stub.GetCollection(search_pb2.GetCollectionRequest(name="pictures"))
    hnsw = answer.collection.spaces[0].index.hnsw
    return hnsw.m, hnsw.ef_construction


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at Qdrant's optimizer and at what was left for later, often."""
    monkeypatch.setattr("search_svc.qdrant.store._LOOK_S", 0.02)
    monkeypatch.setattr("search_svc.jobs.rebuild_indexes._LOOK_S", 0.02)
    monkeypatch.setattr("search_svc.jobs.attempt._RENEW_S", 0.05)


async def test_an_index_gets_other_parameters(serve: Serve) -> None:
    async with serve(store_check_seconds=0.05) as (stub, _):
        nearest = await filled(stub)
        job = await ended(stub, await rebuild(stub, m=24))
        assert (job.state, job.done_count, job.total_count) == (SUCCEEDED, len(VECTORS), len(VECTORS))
        assert list(job.rebuild_indexes_result.built_spaces) == ["image"]
        assert await parameters(stub) == (24, 128)
        assert await found(stub, search_request(VECTORS[7], limit=20)) == nearest
        # What it was made with is still the same definition, and so is what it has.
        for m in (16, 24):
            same = collection("pictures", named_space(hnsw=search_pb2.HnswIndex(m=m)))
            assert (await create(stub, same)).item_count == len(VECTORS)
        other = create(stub, collection("pictures", named_space(hnsw=search_pb2.HnswIndex(m=30))))
        await refused(other, grpc.StatusCode.ALREADY_EXISTS, Reason.COLLECTION_EXISTS)
        assert (await ended(stub, await rebuild(stub, m=20, ef=200, spaces=["image"]))).state == SUCCEEDED
        assert await parameters(stub) == (20, 200)


async def test_an_index_that_was_left_for_later_is_built(serve: Serve) -> None:
    async with serve(store_check_seconds=0.05) as (stub, _):
        await filled(stub, named_space(deferred=LATER))
        job = await ended(stub, await rebuild(stub))
        assert list(job.rebuild_indexes_result.built_spaces) == ["image"]
        await until(lambda: uses_index(stub))
        assert (await ended(stub, await rebuild(stub, ef=256))).state == SUCCEEDED
        assert await parameters(stub) == (16, 256)


async def test_bad_requests_are_refused(stub: Stub) -> None:
    await create(stub, collection("pictures", named_space(), named_space("flat", flat=True)))
    await create(stub, collection("flat", named_space("flat", flat=True)))
    for fields, reason, field in (
        ({"spaces": ["nowhere"]}, Reason.SPACE_UNKNOWN, "spaces[0]"),
        ({"spaces": ["image", ""]}, Reason.SPACE_UNKNOWN, "spaces[1]"),
        ({"spaces": ["image", "image"]}, Reason.OPTION_INVALID, "spaces[1]"),
        ({"spaces": ["flat"]}, Reason.OPTION_INVALID, "spaces[0]"),
        ({"collection": "flat"}, Reason.OPTION_INVALID, "spaces"),
        ({"m": 1}, Reason.OPTION_INVALID, "hnsw.m"),
        ({"m": 65}, Reason.OPTION_INVALID, "hnsw.ef_construction"),
        ({"ef": 1001}, Reason.OPTION_INVALID, "hnsw.ef_construction"),
        ({"job_id": "a b"}, Reason.JOB_INVALID, "job_id"),
    ):
        await refused(rebuild(stub, **fields), INVALID, reason, field)
    # The space that has an index.
    assert list((await ended(stub, await rebuild(stub, m=8))).rebuild_indexes_result.built_spaces) == ["image"]


async def test_qdrant_is_told_and_waited_for() -> None:
    standin = StandIn()
    await standin.start()
    try:
        async with searching(standin.url()) as stub:
            await filled(stub)
            same = await ended(stub, await rebuild(stub))
            assert (same.state, list(same.rebuild_indexes_result.unchanged_spaces)) == (SUCCEEDED, ["image"])
            assert standin.updated == []
            standin.optimized = 0.5
            job_id = await rebuild(stub, m=24)

            async def half_done() -> bool:
                return (await get(stub, job_id)).done_count == len(VECTORS) // 2

            await until(half_done)
            assert await parameters(stub) == (16, 128)
            diff = standin.updated[0].vectors_config.params_map.map["image"].hnsw_config
            assert (diff.m, diff.ef_construct) == (24, 128)
            standin.optimizer_error = "No space left on device: WAL"
            job = await ended(stub, job_id)
            assert from_status(job.error).reason is Reason.STORE_FULL
    finally:
        await standin.remove()


async def test_local_mode_has_none(tmp_path: Path) -> None:
    async with searching(f"qdrant+local:{tmp_path}") as stub:
        await filled(stub)
        job = await ended(stub, await rebuild(stub, m=24))
        assert (job.state, list(job.rebuild_indexes_result.unchanged_spaces)) == (SUCCEEDED, ["image"])


@asynccontextmanager
async def searching(url: str, **options: Any) -> AsyncIterator[Stub]:
    """The service on a store, which it looks at twenty times a second."""
    async with (
        running(settings_for(url, store_check_seconds=0.05, **options), SearchApp, "search") as server,
        open_channel(server.address) as channel,
    ):
        yield search_pb2_grpc.SearchServiceStub(channel)


class Watcher:
    """A look into the catalog, and a writer that a build waits for."""

    def __init__(self, connection: asyncpg.Connection, writer: asyncpg.Connection) -> None:
        self._connection = connection
        self._writer = writer

    async def graphs(self) -> list[tuple[str, bool, list[str]]]:
        return [tuple(row) for row in await self._connection.fetch(GRAPHS)]

    async def is_building(self) -> bool:
        return bool(await self._connection.fetchval("SELECT count(*) FROM pg_stat_progress_create_index"))

    async def end_builds(self) -> None:
        await self._connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_progress_create_index")

    async def is_dropping(self) -> bool:
        return bool(await self._connection.fetchval(f"SELECT count(*) {DROPS}"))

    async def end_drops(self) -> None:
        await self._connection.execute(f"SELECT pg_terminate_backend(pid) {DROPS}")

        async def are_gone() -> bool:
            return not await self.is_dropping()

        await until(are_gone)

    async def hold(self, mode: str = "ROW EXCLUSIVE") -> None:
        table = await self._writer.fetchval("SELECT relname FROM pg_class WHERE relname ~ '^vectors_[0-9]+_0$'")
        await self._writer.execute(f"BEGIN; LOCK TABLE lensmesh.{table} IN {mode} MODE")

    async def release(self) -> None:
        await self._writer.execute("ROLLBACK")


@pytest.fixture
async def watcher(database_url: str) -> AsyncIterator[Watcher]:
    connections = [await asyncpg.connect(database_url) for _ in range(2)]
    yield Watcher(*connections)
    for connection in connections:
        connection.terminate()


async def test_no_search_fails_meanwhile(database_url: str, watcher: Watcher) -> None:
    async with searching(database_url) as stub:
        nearest = await filled(stub)
        [(old, _, _)] = await watcher.graphs()
        done, answers = asyncio.Event(), 0

        async def search() -> None:
            nonlocal answers
            while not done.is_set():
                response = await stub.Search(search_request(VECTORS[7], limit=20))
                assert [hit.item.id for hit in response.hits] == nearest
                assert not response.exact
                answers += 1

        async def write() -> None:
            while not done.is_set():
                await upsert(stub, item("far", -VECTORS[7]))
                await asyncio.sleep(0.01)

        load = [asyncio.ensure_future(work()) for work in (search, search, write)]
        await watcher.hold()
        job_id = await rebuild(stub, m=24)
        await until(watcher.is_building)
        before = answers
        await until(lambda: answers > before + 20)
        assert (await get(stub, job_id)).state == search_pb2.JOB_STATE_RUNNING
        await watcher.release()
        assert (await ended(stub, job_id)).state == SUCCEEDED
        before = answers
        await until(lambda: answers > before + 20)
        done.set()
        await asyncio.gather(*load)
        [(new, is_valid, options)] = await watcher.graphs()
        assert (new != old, is_valid, options) == (True, True, ["m=24", "ef_construction=128"])


async def test_a_full_disk_leaves_the_old_index(database_url: str, watcher: Watcher) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        """
        CREATE OR REPLACE FUNCTION public.no_room() RETURNS event_trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END $$;
        """
    )
    try:
        async with searching(database_url) as stub:
            nearest = await filled(stub)
            before = await watcher.graphs()
            await connection.execute(
                "CREATE EVENT TRIGGER no_room ON ddl_command_start WHEN TAG IN ('CREATE INDEX')"
                " EXECUTE FUNCTION public.no_room()"
            )
            job = await ended(stub, await rebuild(stub, m=24))
            assert (job.state, from_status(job.error).reason) == (FAILED, Reason.STORE_FULL)
            assert await watcher.graphs() == before
            assert not await is_exact(stub)
            assert await found(stub, search_request(VECTORS[7], limit=20)) == nearest
            assert await parameters(stub) == (16, 128)
            # Later writes go on too.
            assert await upsert(stub, item("later", VECTORS[1])) == [search_pb2.UPSERT_OUTCOME_CREATED]
    finally:
        await connection.execute("DROP EVENT TRIGGER IF EXISTS no_room; DROP FUNCTION public.no_room")
        await connection.close()


async def test_cancelled_in_the_middle_the_old_index_stays(database_url: str, watcher: Watcher) -> None:
    async with searching(database_url) as stub:
        await filled(stub)
        before = await watcher.graphs()
        await watcher.hold()
        job_id = await rebuild(stub, m=24)
        await until(watcher.is_building)
        await cancel(stub, job_id)
        await asyncio.sleep(0.2)
        # The lock that its removal needs is free now.
        await watcher.release()
        assert (await ended(stub, job_id)).state == CANCELLED
        assert await watcher.graphs() == before
        assert not await watcher.is_building()
        assert (await ended(stub, await rebuild(stub, m=24))).state == SUCCEEDED


async def test_what_a_connection_that_ended_left_is_built_anew(database_url: str, watcher: Watcher) -> None:
    async with searching(database_url) as stub:
        await filled(stub)
        await watcher.hold()
        job_id = await rebuild(stub, m=24)
        await until(watcher.is_building)
        await watcher.end_builds()

        async def says_why() -> bool:
            return "the database" in (await get(stub, job_id)).message

        await until(says_why)
        await watcher.release()
        assert (await ended(stub, job_id)).state == SUCCEEDED
        [(_, is_valid, options)] = await watcher.graphs()
        assert (is_valid, options) == (True, ["m=24", "ef_construction=128"])


async def test_whoever_takes_it_up_waits_for_what_is_being_built(
    database_url: str, watcher: Watcher, tmp_path: Path
) -> None:
    async with search_process(database_url, tmp_path, job_lease_seconds="1") as first:
        await filled(first.stub)
        await watcher.hold()
        job_id = await rebuild(first.stub, m=24)
        await until(watcher.is_building)
        begun = [name for name, is_valid, _ in await watcher.graphs() if not is_valid]
        first.process.kill()
        await first.process.wait()
    async with searching(database_url, job_lease_seconds=1) as stub:

        async def taken_up() -> bool:
            return (await get(stub, job_id)).attempt_count == 2

        await until(taken_up)
        assert await watcher.is_building()
        await watcher.release()
        assert (await ended(stub, job_id)).state == SUCCEEDED
        # The very index that the killed one began.
        assert [name for name, _, _ in await watcher.graphs()] == begun


@pytest.mark.parametrize(
    ("table", "phase", "graphs"),
    [
        # The job is taken, and has counted what there is to do.
        ("jobs", "NEW.state = 'running' AND NEW.checkpoint <> OLD.checkpoint AND NEW.done = 0", 1),
        # The new graph stands, and is about to take over.
        ("collections", "NEW.definition <> OLD.definition", 2),
        # It has taken over, the old one is dropped, and that is yet to be noted.
        ("jobs", f"NEW.done = {len(VECTORS)} AND OLD.done < {len(VECTORS)}", 1),
    ],
)
async def test_a_worker_that_is_killed_between_two_steps_is_succeeded(
    database_url: str, watcher: Watcher, tmp_path: Path, table: str, phase: str, graphs: int
) -> None:
    connection = await asyncpg.connect(database_url)
    gate = Gate(connection)
    try:
        async with search_process(database_url, tmp_path, **LEASE) as first:
            nearest = await filled(first.stub)
            await gate.close(phase, table)
            job_id = await rebuild(first.stub, m=24)
            await until(gate.is_reached)
            first.process.kill()
            await first.process.wait()
        assert len(await watcher.graphs()) == graphs
        await gate.open()
        await _is_taken_up(database_url, watcher, job_id, nearest)
    finally:
        connection.terminate()


async def test_a_worker_that_is_killed_while_it_drops_the_old_graph_is_succeeded(
    database_url: str, watcher: Watcher, tmp_path: Path
) -> None:
    async with search_process(database_url, tmp_path, **LEASE) as first:
        nearest = await filled(first.stub)
        # As a long search: a build does not wait for it.
        await watcher.hold("ACCESS SHARE")
        job_id = await rebuild(first.stub, m=24)
        await until(watcher.is_dropping)
        first.process.kill()
        await first.process.wait()
    # PostgreSQL would go on with it by itself.
    await watcher.end_drops()
    # The new one counts, and the one that was being dropped is out of use.
    assert sorted((options, is_valid) for _, is_valid, options in await watcher.graphs()) == [
        (["m=16", "ef_construction=128"], False),
        (["m=24", "ef_construction=128"], True),
    ]
    await watcher.release()
    await _is_taken_up(database_url, watcher, job_id, nearest)


async def _is_taken_up(database_url: str, watcher: Watcher, job_id: str, nearest: list[str]) -> None:
    """A rebuild that another replica began ends as if nothing had been."""
    async with searching(database_url, **LEASE) as stub:
        job = await ended(stub, job_id)
        assert (job.state, job.attempt_count > 1, job.done_count) == (SUCCEEDED, True, len(VECTORS))
        assert list(job.rebuild_indexes_result.built_spaces) == ["image"]
        assert [(is_valid, options) for _, is_valid, options in await watcher.graphs()] == [
            (True, ["m=24", "ef_construction=128"])
        ]
        assert await parameters(stub) == (24, 128)
        assert await found(stub, search_request(VECTORS[7], limit=20)) == nearest


async def test_a_collection_that_is_removed_meanwhile(database_url: str, watcher: Watcher) -> None:
    async with searching(database_url) as stub:
        await filled(stub)
        # Something that the build waits for, and a removal need not.
        reader = await asyncpg.connect(database_url)
        await reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM lensmesh.collections")
        job_id = await rebuild(stub, m=24)
        await until(watcher.is_building)
        await stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name="pictures"))
        job = await ended(stub, job_id)
        assert from_status(job.error).reason is Reason.COLLECTION_NOT_FOUND
        reader.terminate()
