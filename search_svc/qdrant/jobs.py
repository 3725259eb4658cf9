"""Jobs in Qdrant: a collection of their own beside that of collections, one small point for each.

Qdrant has no transactions and tells no time. Each change of a job reads its point, and writes it back under the
condition that it still has the version that was read; Qdrant applies writes to a point one after the other. So of two
replicas that take a job one gets it. Leases go by the replicas' clocks, which should be within a few seconds of one
another. Between a look at a lease and a write of items another replica may take the job: docs/stores.md says what
follows.
"""

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from qdrant_client import AsyncQdrantClient, models

from search_svc.jobs.errors import error_from_json, error_to_json, no_job, other_job, too_many_jobs
from search_svc.jobs.model import (
    MAX_OPEN_JOBS,
    Job,
    JobEnd,
    JobProgress,
    JobSelection,
    JobState,
    Lease,
    LeasedJob,
    NewJob,
)
from search_svc.jobs.store import LeaseLost
from search_svc.qdrant.engine import QdrantEngine, Work
from search_svc.qdrant.faults import CollectionGone
from search_svc.qdrant.layout import jobs_collection, point_id
from search_svc.qdrant.predicates import any_of
from search_svc.refusals import unavailable

T = TypeVar("T")
_ATTEMPTS = 20
_PAGE = 256
# What a point has besides its parameters, which may be large.
_SMALL = ["id", "version", "token", "lease_until", "open", "job"]
_MOMENTS = ("create_time", "start_time", "end_time", "expire_time")
_OPEN, _ENDED = "open", "ended"


class _Point:
    """A job as it was read: its version, and who has it until when."""

    def __init__(self, payload: dict[str, Any]) -> None:
        self.version: str = payload["version"]
        self.token: str = payload["token"]
        self.lease_until: float = payload["lease_until"]
        self.job = _job(payload)

    def is_due(self, now: float) -> bool:
        """Tell whether anybody may take the job."""
        return not self.job.state.has_ended and (self.job.state is JobState.PENDING or self.lease_until < now)


Change = Callable[[_Point], dict[str, Any]]
"""Returns what is to be written of a job. Raises to write nothing."""


class QdrantJobs:
    """Jobs in Qdrant; see `JobStore`."""

    def __init__(self, engine: QdrantEngine, prefix: str) -> None:
        self._engine = engine
        self._prefix = prefix

    async def start(self, new: NewJob, *, timeout_s: float) -> Job:
        now = datetime.now(UTC)
        job = Job(
            new.id,
            new.kind,
            new.collection,
            new.collection_key,
            new.parameters,
            JobState.PENDING,
            create_time=now,
            trace=new.trace,
        )

        async def work(client: AsyncQdrantClient) -> Job:
            there = await _find(client, self._prefix, new.id, with_parameters=True)
            if there is None:
                if len(await _scroll(client, self._prefix, _open_alone())) >= MAX_OPEN_JOBS:
                    raise too_many_jobs()
                payload = {
                    "id": new.id,
                    "parameters": new.parameters,
                    "version": str(uuid.uuid4()),
                    **_held(""),
                    **_written(job),
                }
                point = models.PointStruct(id=_point_id(new.id), vector={}, payload=payload)
                await client.upsert(
                    jobs_collection(self._prefix),
                    [point],
                    wait=True,
                    ordering=models.WriteOrdering.STRONG,
                    update_mode=models.UpdateMode.INSERT_ONLY,
                )
                there = await _read(client, self._prefix, new.id)
            if (there.job.kind, there.job.collection, there.job.parameters) != (
                new.kind,
                new.collection,
                new.parameters,
            ):
                raise other_job(new.id)
            return there.job

        return await self._run(work, timeout_s)

    async def get(self, job_id: str, *, timeout_s: float) -> Job:
        async def work(client: AsyncQdrantClient) -> Job:
            return (await _read(client, self._prefix, job_id)).job

        return await self._run(work, timeout_s)

    async def list(self, chosen: JobSelection, *, after: str, count: int, timeout_s: float) -> Sequence[Job]:
        points = await self._run(lambda client: _scroll(client, self._prefix, None), timeout_s)
        jobs = sorted((point.job for point in points if chosen.chooses(point.job)), key=self.position, reverse=True)
        return [job for job in jobs if not after or self.position(job) < after][:count]

    def position(self, job: Job) -> str:
        return f"{job.create_time.isoformat(timespec='microseconds')} {job.id}"

    async def cancel(self, job_id: str, *, keep_s: float, timeout_s: float) -> Job:
        def change(point: _Point) -> dict[str, Any]:
            job = replace(point.job, cancel_requested=True)
            # What somebody began with may have left something: whoever takes it up next takes that away.
            return _written(job) if job.attempts else _ended(job, JobEnd(JobState.CANCELLED), keep_s)

        async def work(client: AsyncQdrantClient) -> Job:
            there = await _read(client, self._prefix, job_id)
            if not there.job.state.has_ended:
                await _change(client, self._prefix, job_id, lambda point: {} if _over(point) else change(point))
            return (await _read(client, self._prefix, job_id)).job

        return await self._run(work, timeout_s)

    async def take(self, kinds: Sequence[str], *, lease_s: float, timeout_s: float) -> LeasedJob | None:
        token = str(uuid.uuid4())

        def change(point: _Point) -> dict[str, Any]:
            now = datetime.now(UTC)
            if not point.is_due(now.timestamp()):
                raise LeaseLost
            job = point.job
            taken = replace(
                job,
                state=JobState.RUNNING,
                attempts=job.attempts + 1,
                idle_attempts=job.idle_attempts + 1,
                progress=replace(job.progress, rate=0.0),
                start_time=job.start_time or now,
            )
            return {**_held(token, lease_s), **_written(taken)}

        async def work(client: AsyncQdrantClient) -> LeasedJob | None:
            now = datetime.now(UTC).timestamp()
            points = await _scroll(client, self._prefix, _open_alone())
            due = [point.job for point in points if point.is_due(now) and point.job.kind in kinds]
            running = {_work_of(point.job): point.job.id for point in points if point.job.state is JobState.RUNNING}
            for job in sorted(due, key=self.position):
                if running.get(_work_of(job), job.id) != job.id:
                    continue
                try:
                    await _change(client, self._prefix, job.id, change)
                except LeaseLost:
                    continue
                taken = await _read(client, self._prefix, job.id)
                if taken.token == token:
                    return LeasedJob(taken.job, Lease(job.id, token))
            return None

        return await self._run(work, timeout_s)

    async def renew(self, lease: Lease, *, lease_s: float, timeout_s: float) -> bool:
        async def work(client: AsyncQdrantClient) -> bool:
            await _change(client, self._prefix, lease.job_id, _under(lease, lambda _: _held(lease.token, lease_s)))
            return (await _read(client, self._prefix, lease.job_id)).job.cancel_requested

        return await self._leased(work, timeout_s)

    async def save(self, lease: Lease, progress: JobProgress, *, timeout_s: float) -> None:
        await self._leased(lambda client: save(client, self._prefix, lease, progress), timeout_s)

    async def hand_back(self, lease: Lease, *, timeout_s: float) -> None:
        def change(point: _Point) -> dict[str, Any]:
            if point.token != lease.token:
                return {}
            idle = max(0, point.job.idle_attempts - 1)
            return {**_held(""), **_written(replace(point.job, state=JobState.PENDING, idle_attempts=idle))}

        await self._run(lambda client: _change(client, self._prefix, lease.job_id, change), timeout_s)

    async def end(self, lease: Lease, end: JobEnd, *, keep_s: float, timeout_s: float) -> None:
        change = _under(lease, lambda point: _ended(point.job, end, keep_s))
        await self._leased(lambda client: _change(client, self._prefix, lease.job_id, change), timeout_s)

    async def remove_expired(self, *, timeout_s: float) -> int:
        async def work(client: AsyncQdrantClient) -> int:
            now = datetime.now(UTC)
            points = await _scroll(client, self._prefix, models.Filter(must=[any_of("open", [_ENDED])]))
            old = [_point_id(point.job.id) for point in points if point.job.expire_time and point.job.expire_time < now]
            if old:
                await client.delete(
                    jobs_collection(self._prefix),
                    points_selector=models.PointIdsList(points=[*old]),
                    wait=True,
                    ordering=models.WriteOrdering.STRONG,
                )
            return len(old)

        return await self._run(work, timeout_s)

    async def _run(self, work: Work[T], timeout_s: float) -> T:
        try:
            return await self._engine.run(work, timeout_s=timeout_s)
        except CollectionGone:
            raise unavailable("Qdrant is not prepared, or lost its collections") from None

    async def _leased(self, work: Work[T], timeout_s: float) -> T:
        """Do work on a job that this replica has; one that is gone is lost too."""
        try:
            return await self._run(work, timeout_s)
        except _Gone:
            raise LeaseLost from None


class _Gone(Exception):  # noqa: N818 - a state, read as a sentence where it is caught
    """There is no such job."""


async def hold(client: AsyncQdrantClient, prefix: str, lease: Lease) -> None:
    """Raise LeaseLost unless the lease is the job's newest one at this moment."""
    there = await _find(client, prefix, lease.job_id)
    if there is None or there.token != lease.token:
        raise LeaseLost


async def save(client: AsyncQdrantClient, prefix: str, lease: Lease, progress: JobProgress) -> None:
    """Save progress. Raises LeaseLost."""

    def change(point: _Point) -> dict[str, Any]:
        return _written(replace(point.job, progress=progress, idle_attempts=0))

    await _change(client, prefix, lease.job_id, _under(lease, change))


def _under(lease: Lease, change: Change) -> Change:
    """Return a change that is done only while the lease holds."""

    def checked(point: _Point) -> dict[str, Any]:
        if point.token != lease.token:
            raise LeaseLost
        return change(point)

    return checked


async def _change(client: AsyncQdrantClient, prefix: str, job_id: str, change: Change) -> None:
    """Change a job as it is now, again where somebody else changed it meanwhile."""
    for _ in range(_ATTEMPTS):
        point = await _find(client, prefix, job_id)
        if point is None:
            raise _Gone
        written = change(point)
        if not written:
            return
        version = str(uuid.uuid4())
        unchanged = models.Filter(
            must=[models.HasIdCondition(has_id=[_point_id(job_id)]), any_of("version", [point.version])]
        )
        await client.set_payload(
            jobs_collection(prefix),
            {**written, "version": version},
            points=unchanged,
            wait=True,
            ordering=models.WriteOrdering.STRONG,
        )
        now = await _find(client, prefix, job_id)
        if now is not None and now.version == version:
            return
    raise unavailable("the job was changed by others each time it was tried")


async def _read(client: AsyncQdrantClient, prefix: str, job_id: str) -> _Point:
    point = await _find(client, prefix, job_id, with_parameters=True)
    if point is None:
        raise no_job(job_id)
    return point


async def _find(client: AsyncQdrantClient, prefix: str, job_id: str, *, with_parameters: bool = False) -> _Point | None:
    records = await client.retrieve(
        jobs_collection(prefix), [_point_id(job_id)], with_payload=True if with_parameters else _SMALL
    )
    return _Point(records[0].payload) if records and records[0].payload else None


async def _scroll(client: AsyncQdrantClient, prefix: str, chosen: models.Filter | None) -> list[_Point]:
    found: list[_Point] = []
    offset: Any = None
    while True:
        records, offset = await client.scroll(
            jobs_collection(prefix), scroll_filter=chosen, limit=_PAGE, offset=offset, with_payload=_SMALL
        )
        found += [_Point(record.payload) for record in records if record.payload]
        if offset is None:
            return found


def _work_of(job: Job) -> tuple[str, str]:
    return job.kind, job.collection_key


def _over(point: _Point) -> bool:
    return point.job.state.has_ended


def _open_alone() -> models.Filter:
    return models.Filter(must=[any_of("open", [_OPEN])])


def _point_id(job_id: str) -> str:
    return point_id(f"#job:{job_id}")


def _held(token: str, lease_s: float = 0.0) -> dict[str, Any]:
    return {"token": token, "lease_until": datetime.now(UTC).timestamp() + lease_s}


def _ended(job: Job, end: JobEnd, keep_s: float) -> dict[str, Any]:
    now = datetime.now(UTC)
    ended = replace(
        job,
        state=end.state,
        error=end.error,
        result=end.result,
        progress=replace(job.progress, message=""),
        end_time=now,
        expire_time=now + timedelta(seconds=keep_s),
    )
    return {**_held(""), **_written(ended)}


def _written(job: Job) -> dict[str, Any]:
    kept = asdict(replace(job, error=None, parameters=""))
    kept |= {name: kept[name] and kept[name].isoformat() for name in _MOMENTS}
    kept |= {"error": error_to_json(job.error), "state": str(job.state)}
    return {"job": json.dumps(kept), "open": _ENDED if job.state.has_ended else _OPEN}


def _job(payload: dict[str, Any]) -> Job:
    kept: dict[str, Any] = json.loads(payload["job"])
    moments = {name: datetime.fromisoformat(kept[name]) if kept[name] else None for name in _MOMENTS}
    return Job(
        **{
            **kept,
            **moments,
            "state": JobState(kept["state"]),
            "progress": JobProgress(**kept["progress"]),
            "error": error_from_json(kept["error"]),
            "parameters": payload.get("parameters", ""),
        }
    )
