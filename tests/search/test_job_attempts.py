"""Attempts at jobs: what a replica does with the lease, faults, cancellation and its own end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from opentelemetry.trace import NoOpTracer
from prometheus_client import CollectorRegistry

from lensmesh_chassis.errors import DeadlineExceeded, InvalidInput, Unavailable
from lensmesh_chassis.reasons import Reason
from search_svc.jobs.attempt import JobSettings
from search_svc.jobs.context import JobContext
from search_svc.jobs.errors import JobFailed
from search_svc.jobs.metrics import JobMetrics
from search_svc.jobs.model import Job, JobProgress, JobState, Lease, NewJob
from search_svc.jobs.runner import JobRunner
from search_svc.refusals import store_full, unavailable
from search_svc.store import Store
from tests.search.jobs import Held
from tests.search.support import definition
from tests.support.waiting import until


class Replica:
    """The part of a replica that works on jobs, with a kind that a test holds."""

    def __init__(self, store: Store, held: Held, lease_s: float) -> None:
        self.registry = CollectorRegistry()
        self.draining = asyncio.Event()
        kinds = held.kinds()
        settings = JobSettings(parallel=1, lease_s=lease_s, keep_s=60, call_s=60, check_s=0.02)
        self.runner = JobRunner(store, kinds, settings, JobMetrics(self.registry, kinds), lambda: True, NoOpTracer())

    def count(self, outcome: str) -> float | None:
        labels = {"kind": "delete_items", "outcome": outcome}
        return self.registry.get_sample_value("lensmesh_job_attempts_total", labels)


@asynccontextmanager
async def replica(store: Store, held: Held, lease_s: float = 60) -> AsyncIterator[Replica]:
    one = Replica(store, held, lease_s)
    one.runner.start(one.draining)
    try:
        yield one
    finally:
        await one.runner.stop()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    monkeypatch.setattr("search_svc.jobs.attempt._RENEW_S", 0.02)
    monkeypatch.setattr("search_svc.jobs.attempt._PAUSES_S", (0.01, 0.01))
    return Held()


async def started(store: Store) -> None:
    made = (await store.create_collection(definition(), timeout_s=60)).collection
    new = NewJob("one", "delete_items", made.definition.name, made.key, "{}")
    await store.jobs.start(new, timeout_s=60)


async def job(store: Store) -> Job:
    return await store.jobs.get("one", timeout_s=60)


async def ended(store: Store) -> Job:
    async def has_ended() -> bool:
        return (await job(store)).state.has_ended

    await until(has_ended)
    return await job(store)


async def test_a_job_that_runs_is_cancelled_and_cleared_away(store: Store, held: Held) -> None:
    await started(store)
    async with replica(store, held) as one:
        await until(lambda: held.saved)
        for _ in range(2):
            await store.jobs.cancel("one", keep_s=60, timeout_s=60)
        assert (await ended(store)).state is JobState.CANCELLED
        assert (held.cancelled, held.undone) == (1, 1)
        await until(lambda: one.count("cancelled") == 1)
    assert held.begun == [0]


async def test_a_replica_that_drains_hands_its_job_on(store: Store, held: Held) -> None:
    await started(store)
    async with replica(store, held) as first:
        await until(lambda: held.saved)
        first.draining.set()
        await until(lambda: first.count("handed_back") == 1)
        assert (await job(store)).state is JobState.PENDING
        held.finish.set()
        async with replica(store, held) as second:
            assert (await ended(store)).state is JobState.SUCCEEDED
            await until(lambda: second.count("succeeded") == 1)
    # From where it was, and nothing of it was cleared away.
    assert (held.begun, held.undone) == ([0, 1], 0)
    assert (await job(store)).result == '{"deleted_count": 10}'


async def test_a_job_goes_on_when_the_store_is_back(store: Store, held: Held) -> None:
    held.faults = [unavailable("away") for _ in range(7)]
    held.finish.set()
    await started(store)
    async with replica(store, held):
        done = await ended(store)
    assert (done.state, done.attempts) == (JobState.SUCCEEDED, 1)
    assert len(held.begun) == 8


@pytest.mark.parametrize(
    ("faults", "reason", "attempts"),
    [
        ([InvalidInput(Reason.FILTER_INVALID, "bad")], Reason.FILTER_INVALID, 1),
        ([JobFailed(store_full())], Reason.STORE_FULL, 1),
        ([ValueError("a secret")], Reason.INTERNAL, 1),
        ([DeadlineExceeded(Reason.DEADLINE_EXCEEDED, "slow")] * 9, Reason.DEADLINE_EXCEEDED, 6),
    ],
)
async def test_what_ends_a_job(
    store: Store, held: Held, faults: list[Exception], reason: Reason, attempts: int
) -> None:
    held.faults = list(faults)
    await started(store)
    async with replica(store, held):
        done = await ended(store)
    assert done.error is not None
    assert (done.state, done.error.reason, len(held.begun), held.undone) == (JobState.FAILED, reason, attempts, 1)
    assert "secret" not in done.error.message


async def test_a_job_that_ends_its_workers_is_given_up(store: Store, held: Held) -> None:
    await started(store)
    for _ in range(6):
        await store.jobs.take(["delete_items"], lease_s=0, timeout_s=60)
    async with replica(store, held):
        done = await ended(store)
    assert done.error is not None
    assert (done.error.reason, held.begun) == (Reason.INTERNAL, [])


async def test_of_two_replicas_one_works(store: Store, held: Held) -> None:
    await started(store)
    async with replica(store, held), replica(store, held):
        await until(lambda: held.saved)
        await asyncio.sleep(0.2)
        held.finish.set()
        assert (await ended(store)).state is JobState.SUCCEEDED
    assert held.begun == [0]


async def test_who_lost_the_lease_ends_without_a_word(store: Store, held: Held) -> None:
    """As a replica does that was stopped, and wakes up beside its successor."""
    await started(store)
    other = Held()
    async with replica(store, held, lease_s=1) as late:
        await until(lambda: held.saved)
        # It renews no more: its lease runs out, and another one takes the job.
        fault = Unavailable(Reason.STORE_UNAVAILABLE, "away")

        async def renew(*_: object, **__: object) -> bool:
            raise fault

        renewed, late_jobs = store.jobs.renew, store.jobs
        object.__setattr__(late_jobs, "renew", renew)
        async with replica(store, other) as second:
            await until(lambda: other.saved)
            object.__setattr__(late_jobs, "renew", renewed)
            held.finish.set()
            await until(lambda: late.count("lost") == 1)
            assert (await job(store)).progress.message == "at work"
            other.finish.set()
            await until(lambda: second.count("succeeded") == 1)
    assert (await job(store)).attempts == 2
    # What the other one needs is not cleared away.
    assert held.undone == 0


def test_a_rate_is_that_of_the_last_half_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("search_svc.jobs.context.time.monotonic", lambda: now[0])
    nothing: Any = None
    made = Job("one", "delete_items", "photos", "7", "{}", JobState.RUNNING, datetime.now(UTC), JobProgress(100, 900))
    context = JobContext(made, Lease("one", "token"), nothing, nothing, nothing, timeout_s=60)

    def rate(after_s: float, done: int) -> float:
        now[0] += after_s
        return round(context.progress(done, 900).rate, 1)

    # What an earlier attempt has done is not of this one.
    assert (rate(0, 100), rate(10, 200)) == (0.0, 10.0)
    assert [rate(10, done) for done in (300, 400, 450, 500, 550, 600)] == [10.0, 10.0, 8.8, 7.5, 6.2, 5.0]
    longer = context.progress(950, 900, message="x" * 900, checkpoint={"after": "i7"})
    assert (longer.total, len(longer.message), longer.checkpoint) == (950, 500, '{"after": "i7"}')
    assert context.checkpoint == {}
    context.saved(longer)
    assert (context.checkpoint, context.done) == ({"after": "i7"}, 950)
