"""Jobs as stores keep them: leases, progress, ends. The same on each store, in Qdrant's local mode too."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lensmesh_chassis.errors import AlreadyExists, InternalFault, NotFound, Overloaded
from lensmesh_chassis.reasons import Reason
from search_svc.app import make_store
from search_svc.jobs import model
from search_svc.jobs.model import JobEnd, JobProgress, JobSelection, JobState, Lease, LeasedJob, NewJob
from search_svc.jobs.store import JobStore, LeaseLost, ResultPart
from tests.search.conftest import KINDS, settings_for
from tests.support.waiting import until


@pytest.fixture(params=[*KINDS, "local"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of each kind."""
    found: str = (
        f"qdrant+local:{tmp_path}" if request.param == "local" else request.getfixturevalue(KINDS[request.param])
    )
    return found


@pytest.fixture
async def jobs(url: str) -> AsyncIterator[JobStore]:
    """Its jobs."""
    store = make_store(settings_for(url))
    await store.open()
    yield store.jobs
    await store.close()


def new(
    job_id: str, kind: str = "delete_items", collection: str = "pictures", parameters: str = "{}", key: str = "7"
) -> NewJob:
    return NewJob(job_id, kind, collection, key, parameters, trace="00-1-2-01")


async def start(jobs: JobStore, job_id: str, **more: str) -> model.Job:
    return await jobs.start(new(job_id, **more), timeout_s=60)


async def take(jobs: JobStore, lease_s: float = 60) -> LeasedJob | None:
    return await jobs.take(["delete_items"], lease_s=lease_s, timeout_s=60)


async def taken(jobs: JobStore, lease_s: float = 60) -> LeasedJob:
    found = await take(jobs, lease_s)
    assert found is not None
    return found


async def test_a_job_goes_its_way(jobs: JobStore) -> None:
    made = await start(jobs, "one", parameters='{"a": 1}')
    assert (made.state, made.attempts, made.start_time) == (JobState.PENDING, 0, None)
    leased = await taken(jobs)
    assert (leased.job.state, leased.job.attempts, leased.job.parameters) == (JobState.RUNNING, 1, '{"a": 1}')
    assert leased.job.trace == "00-1-2-01"
    assert await take(jobs) is None
    progress = JobProgress(3, 9, 1.5, "half way", '{"after": "x"}')
    await jobs.save(leased.lease, progress, timeout_s=60)
    read = await jobs.get("one", timeout_s=60)
    assert (read.progress, read.idle_attempts, read.create_time) == (progress, 0, made.create_time)
    assert not await jobs.renew(leased.lease, lease_s=60, timeout_s=60)
    await jobs.end(leased.lease, JobEnd(JobState.SUCCEEDED, result='{"n": 9}'), keep_s=60, timeout_s=60)
    ended = await jobs.get("one", timeout_s=60)
    assert (ended.state, ended.result, ended.error) == (JobState.SUCCEEDED, '{"n": 9}', None)
    assert ended.start_time is not None
    assert ended.end_time is not None
    assert ended.expire_time is not None
    assert 59 < (ended.expire_time - ended.end_time).total_seconds() < 61
    assert await take(jobs) is None


async def test_a_start_that_is_sent_again_starts_once(jobs: JobStore) -> None:
    first, *others = await asyncio.gather(*(start(jobs, "one") for _ in range(4)))
    assert {other.create_time for other in others} == {first.create_time}
    for more in ({"parameters": '{"b": 2}'}, {"kind": "rebuild"}, {"collection": "others"}):
        with pytest.raises(AlreadyExists) as caught:
            await start(jobs, "one", **more)
        assert caught.value.reason is Reason.JOB_EXISTS


async def test_one_of_several_takes_a_job(jobs: JobStore) -> None:
    for job_id in ("a", "b"):
        await start(jobs, job_id, key=job_id.encode().hex())
    await start(jobs, "of another kind", kind="newer")
    found = await asyncio.gather(*(take(jobs) for _ in range(6)))
    assert sorted(leased.job.id for leased in found if leased) == ["a", "b"]


async def test_one_job_of_a_kind_runs_on_a_collection_at_a_time(jobs: JobStore) -> None:
    for job_id in ("a", "b"):
        await start(jobs, job_id)
    await start(jobs, "elsewhere", key="8")
    first = await taken(jobs)
    assert first.job.id == "a"
    assert (await taken(jobs)).job.id == "elsewhere"
    assert await take(jobs) is None
    await jobs.end(first.lease, JobEnd(JobState.SUCCEEDED), keep_s=60, timeout_s=60)
    assert (await taken(jobs)).job.id == "b"


async def test_a_lease_that_ran_out_is_anothers(jobs: JobStore) -> None:
    await start(jobs, "one")
    first = await taken(jobs, lease_s=0.05)
    await jobs.save(first.lease, JobProgress(checkpoint='{"step": 1}'), timeout_s=60)
    found: list[LeasedJob] = []

    async def runs_out() -> bool:
        found.extend(filter(None, [await take(jobs)]))
        return bool(found)

    await until(runs_out)
    second = found[0]
    assert (second.job.attempts, second.job.idle_attempts, second.job.progress.checkpoint) == (2, 1, '{"step": 1}')
    for late in (
        jobs.save(first.lease, JobProgress(), timeout_s=60),
        jobs.renew(first.lease, lease_s=60, timeout_s=60),
        jobs.end(first.lease, JobEnd(JobState.SUCCEEDED), keep_s=60, timeout_s=60),
    ):
        with pytest.raises(LeaseLost):
            await late
    await jobs.hand_back(first.lease, timeout_s=60)
    await jobs.save(second.lease, JobProgress(5), timeout_s=60)
    assert (await jobs.get("one", timeout_s=60)).state is JobState.RUNNING


async def test_a_lease_that_ran_out_and_nobody_took_holds(jobs: JobStore) -> None:
    await start(jobs, "one")
    leased = await taken(jobs, lease_s=0)
    await jobs.renew(leased.lease, lease_s=60, timeout_s=60)
    assert await take(jobs) is None


async def test_what_is_handed_back_is_taken_at_once(jobs: JobStore) -> None:
    await start(jobs, "one")
    for attempt in range(1, 4):
        leased = await taken(jobs)
        # Handed back in good order: no sign of a job that ends its workers.
        assert (leased.job.attempts, leased.job.idle_attempts) == (attempt, 1)
        await jobs.hand_back(leased.lease, timeout_s=60)
    assert (await jobs.get("one", timeout_s=60)).state is JobState.PENDING


async def test_what_nobody_began_is_cancelled_at_once(jobs: JobStore) -> None:
    await start(jobs, "one")
    for _ in range(2):
        job = await jobs.cancel("one", keep_s=60, timeout_s=60)
        assert (job.state, job.cancel_requested) == (JobState.CANCELLED, True)
        assert job.expire_time is not None
    assert await take(jobs) is None


async def test_what_runs_is_told_that_it_is_cancelled(jobs: JobStore) -> None:
    await start(jobs, "one")
    leased = await taken(jobs)
    for _ in range(2):
        job = await jobs.cancel("one", keep_s=60, timeout_s=60)
        assert (job.state, job.cancel_requested) == (JobState.RUNNING, True)
    assert await jobs.renew(leased.lease, lease_s=60, timeout_s=60)
    # Somebody has to take away what it left.
    await jobs.hand_back(leased.lease, timeout_s=60)
    assert (await taken(jobs)).job.cancel_requested


async def test_what_has_ended_cannot_be_cancelled(jobs: JobStore) -> None:
    await start(jobs, "one")
    leased = await taken(jobs)
    error = InternalFault(Reason.OUT_OF_MEMORY, "no memory", metadata={"bytes": 7})
    await jobs.end(leased.lease, JobEnd(JobState.FAILED, error), keep_s=60, timeout_s=60)
    job = await jobs.cancel("one", keep_s=60, timeout_s=60)
    assert (job.state, job.cancel_requested) == (JobState.FAILED, False)
    assert type(job.error) is InternalFault
    assert (job.error.reason, job.error.message, job.error.metadata) == (error.reason, "no memory", {"bytes": "7"})


async def test_jobs_that_nobody_knows(jobs: JobStore) -> None:
    for call in (jobs.get("none", timeout_s=60), jobs.cancel("none", keep_s=60, timeout_s=60)):
        with pytest.raises(NotFound) as caught:
            await call
        assert caught.value.reason is Reason.JOB_NOT_FOUND
    with pytest.raises(LeaseLost):
        await jobs.save(Lease("none", "00000000-0000-0000-0000-000000000000"), JobProgress(), timeout_s=60)


async def test_lists_are_newest_first_and_of_what_is_asked_for(jobs: JobStore) -> None:
    for job_id in ("a", "b", "c"):
        await start(jobs, job_id, parameters='{"large": true}')
    await start(jobs, "d", kind="newer", collection="others")
    await jobs.cancel("b", keep_s=60, timeout_s=60)

    async def found(chosen: JobSelection, after: str = "", count: int = 9) -> list[model.Job]:
        return list(await jobs.list(chosen, after=after, count=count, timeout_s=60))

    everything = await found(JobSelection())
    assert [job.id for job in everything] == ["d", "c", "b", "a"]
    assert {job.parameters for job in everything} == {""}
    page = await found(JobSelection(), count=2)
    assert [job.id for job in await found(JobSelection(), after=jobs.position(page[-1]))] == ["b", "a"]
    for chosen, ids in (
        (JobSelection(collection="others"), ["d"]),
        (JobSelection(kind="delete_items"), ["c", "b", "a"]),
        (JobSelection(states={JobState.CANCELLED}), ["b"]),
        (JobSelection("pictures", "delete_items", {JobState.PENDING, JobState.FAILED}), ["c", "a"]),
    ):
        assert [job.id for job in await found(chosen)] == ids


async def test_what_was_kept_long_enough_goes(jobs: JobStore) -> None:
    for job_id, keep_s in (("old", 0), ("kept", 60)):
        await start(jobs, job_id)
        await jobs.cancel(job_id, keep_s=keep_s, timeout_s=60)
    await start(jobs, "waits")

    async def is_removed() -> bool:
        return await jobs.remove_expired(timeout_s=60) == 1

    await until(is_removed)
    assert await jobs.remove_expired(timeout_s=60) == 0
    left = await jobs.list(JobSelection(), after="", count=9, timeout_s=60)
    assert [job.id for job in left] == ["waits", "kept"]


async def test_a_store_takes_so_many_and_no_more(jobs: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("postgres", "qdrant"):
        monkeypatch.setattr(f"search_svc.{module}.jobs.MAX_OPEN_JOBS", 2)
    await start(jobs, "a")
    await start(jobs, "b")
    with pytest.raises(Overloaded):
        await start(jobs, "c")
    # Sent again, it is no other one.
    await start(jobs, "a")
    await jobs.cancel("b", keep_s=60, timeout_s=60)
    await start(jobs, "c")


async def parts_of(jobs: JobStore, lease: Lease) -> list[str]:
    found = [await jobs.parts.read(lease.job_id, lease.token, number, timeout_s=60) for number in range(4)]
    return [part.content for part in found if part is not None]


async def test_large_results_are_kept_in_parts_and_go_with_their_job(jobs: JobStore) -> None:
    await start(jobs, "one")
    late = await taken(jobs, lease_s=0)
    await jobs.parts.write(late.lease, ResultPart(0, 0, "of the first attempt"), timeout_s=60)
    there = await taken(jobs)
    for part in (ResultPart(0, 0, "a"), ResultPart(1, 3, "b"), ResultPart(2, 3, "b2"), ResultPart(1, 3, "b1")):
        await jobs.parts.write(there.lease, part, timeout_s=60)
    with pytest.raises(LeaseLost):
        await jobs.parts.write(late.lease, ResultPart(1, 0, "late"), timeout_s=60)
    assert await jobs.parts.read("one", there.lease.token, 2, timeout_s=60) == ResultPart(2, 3, "b2")
    assert (await parts_of(jobs, there.lease), await parts_of(jobs, late.lease)) == (
        ["a", "b1", "b2"],
        ["of the first attempt"],
    )
    assert [await jobs.parts.find("one", there.lease.token, first, timeout_s=60) for first in (0, 2, 3, 9)] == [
        0,
        0,
        2,
        2,
    ]
    assert await jobs.parts.find("two", there.lease.token, 0, timeout_s=60) == -1
    await jobs.parts.remove(["one", "two"], but=there.lease.token, timeout_s=60)
    assert (len(await parts_of(jobs, there.lease)), await parts_of(jobs, late.lease)) == (3, [])
    await jobs.end(there.lease, JobEnd(JobState.SUCCEEDED), keep_s=0, timeout_s=60)
    await until(lambda: removed_one(jobs))
    assert await parts_of(jobs, there.lease) == []


async def removed_one(jobs: JobStore) -> bool:
    return await jobs.remove_expired(timeout_s=60) == 1


async def test_parts_go_by_request(jobs: JobStore) -> None:
    for job_id, key in (("one", "7"), ("two", "8")):
        await start(jobs, job_id, key=key)
    first, second = await taken(jobs), await taken(jobs)
    for leased in (first, second):
        await jobs.parts.write(leased.lease, ResultPart(0, 0, leased.job.id), timeout_s=60)
    await jobs.parts.remove([], timeout_s=60)
    await jobs.parts.remove(["one"], timeout_s=60)
    assert (await parts_of(jobs, first.lease), await parts_of(jobs, second.lease)) == ([], ["two"])


async def test_progress_that_does_not_last_is_none_for_a_job_that_ends_its_workers(jobs: JobStore) -> None:
    await start(jobs, "one")
    for attempt in range(1, 4):
        leased = await taken(jobs, lease_s=0)
        assert (leased.job.idle_attempts, leased.job.progress.done) == (attempt, attempt - 1)
        await jobs.save(leased.lease, JobProgress(attempt), lasting=False, timeout_s=60)
    await jobs.save(leased.lease, JobProgress(9), timeout_s=60)
    assert (await jobs.get("one", timeout_s=60)).idle_attempts == 0
