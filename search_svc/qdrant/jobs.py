"""Jobs in Qdrant: a collection of their own beside that of collections, one small point for each.

Of two replicas that take a job one gets it, since Qdrant changes a point only as it was read. It tells no time: leases
go by the replicas' clocks, which should be within a few seconds of one another. Between a look at a lease and a write
of items another replica may take the job: docs/stores.md says what follows.
"""

import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from qdrant_client import AsyncQdrantClient, models

from search_svc.jobs.errors import other_job, too_many_jobs
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
from search_svc.qdrant import job_points
from search_svc.qdrant.engine import QdrantEngine, Work
from search_svc.qdrant.faults import CollectionGone
from search_svc.qdrant.job_parts import QdrantParts
from search_svc.qdrant.job_points import JobGone, JobPoint
from search_svc.qdrant.layout import jobs_collection
from search_svc.qdrant.predicates import any_of
from search_svc.refusals import unavailable

T = TypeVar("T")


class QdrantJobs:
    """Jobs in Qdrant; see `JobStore`."""

    def __init__(self, engine: QdrantEngine, prefix: str) -> None:
        self._engine = engine
        self._prefix = prefix
        self.parts = QdrantParts(engine, prefix)

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
            there = await job_points.find(client, self._prefix, new.id, with_parameters=True)
            if there is None:
                if len(await job_points.scroll(client, self._prefix, job_points.open_alone())) >= MAX_OPEN_JOBS:
                    raise too_many_jobs()
                payload = {
                    "id": new.id,
                    "parameters": new.parameters,
                    "version": str(uuid.uuid4()),
                    **job_points.held(""),
                    **job_points.written(job),
                }
                point = models.PointStruct(id=job_points.job_point_id(new.id), vector={}, payload=payload)
                await client.upsert(
                    jobs_collection(self._prefix),
                    [point],
                    wait=True,
                    ordering=models.WriteOrdering.STRONG,
                    update_mode=models.UpdateMode.INSERT_ONLY,
                )
                there = await job_points.read(client, self._prefix, new.id)
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
            return (await job_points.read(client, self._prefix, job_id)).job

        return await self._run(work, timeout_s)

    async def list(self, chosen: JobSelection, *, after: str, count: int, timeout_s: float) -> Sequence[Job]:
        points = await self._run(lambda client: job_points.scroll(client, self._prefix, None), timeout_s)
        jobs = sorted((point.job for point in points if chosen.chooses(point.job)), key=self.position, reverse=True)
        return [job for job in jobs if not after or self.position(job) < after][:count]

    def position(self, job: Job) -> str:
        return f"{job.create_time.isoformat(timespec='microseconds')} {job.id}"

    async def cancel(self, job_id: str, *, keep_s: float, timeout_s: float) -> Job:
        def change(point: JobPoint) -> dict[str, Any]:
            job = replace(point.job, cancel_requested=True)
            # What somebody began with may have left something: whoever takes it up next takes that away.
            return (
                job_points.written(job) if job.attempts else job_points.ended(job, JobEnd(JobState.CANCELLED), keep_s)
            )

        async def work(client: AsyncQdrantClient) -> Job:
            there = await job_points.read(client, self._prefix, job_id)
            if not there.job.state.has_ended:
                await job_points.change_job(
                    client, self._prefix, job_id, lambda point: {} if point.job.state.has_ended else change(point)
                )
            return (await job_points.read(client, self._prefix, job_id)).job

        return await self._run(work, timeout_s)

    async def take(self, kinds: Sequence[str], *, lease_s: float, timeout_s: float) -> LeasedJob | None:
        token = str(uuid.uuid4())

        def change(point: JobPoint) -> dict[str, Any]:
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
            return {**job_points.held(token, lease_s), **job_points.written(taken)}

        async def work(client: AsyncQdrantClient) -> LeasedJob | None:
            now = datetime.now(UTC).timestamp()
            points = await job_points.scroll(client, self._prefix, job_points.open_alone())
            due = [point.job for point in points if point.is_due(now) and point.job.kind in kinds]
            running = {
                job_points.work_of(point.job): point.job.id for point in points if point.job.state is JobState.RUNNING
            }
            for job in sorted(due, key=self.position):
                if running.get(job_points.work_of(job), job.id) != job.id:
                    continue
                try:
                    await job_points.change_job(client, self._prefix, job.id, change)
                except (LeaseLost, JobGone):
                    continue
                taken = await job_points.read(client, self._prefix, job.id)
                if taken.token == token:
                    return LeasedJob(taken.job, Lease(job.id, token))
            return None

        return await self._run(work, timeout_s)

    async def renew(self, lease: Lease, *, lease_s: float, timeout_s: float) -> bool:
        async def work(client: AsyncQdrantClient) -> bool:
            await job_points.change_job(
                client,
                self._prefix,
                lease.job_id,
                job_points.under(lease, lambda _: job_points.held(lease.token, lease_s)),
            )
            return (await job_points.read(client, self._prefix, lease.job_id)).job.cancel_requested

        return await self._leased(work, timeout_s)

    async def save(self, lease: Lease, progress: JobProgress, *, lasting: bool = True, timeout_s: float) -> None:
        await self._leased(
            lambda client: job_points.save(client, self._prefix, lease, progress, lasting=lasting), timeout_s
        )

    async def hand_back(self, lease: Lease, *, timeout_s: float) -> None:
        def change(point: JobPoint) -> dict[str, Any]:
            if point.token != lease.token:
                return {}
            idle = max(0, point.job.idle_attempts - 1)
            return {
                **job_points.held(""),
                **job_points.written(replace(point.job, state=JobState.PENDING, idle_attempts=idle)),
            }

        with suppress(JobGone):
            await self._run(lambda client: job_points.change_job(client, self._prefix, lease.job_id, change), timeout_s)

    async def end(self, lease: Lease, end: JobEnd, *, keep_s: float, timeout_s: float) -> None:
        change = job_points.under(lease, lambda point: job_points.ended(point.job, end, keep_s))
        await self._leased(lambda client: job_points.change_job(client, self._prefix, lease.job_id, change), timeout_s)

    async def remove_expired(self, *, timeout_s: float) -> int:
        async def work(client: AsyncQdrantClient) -> list[str]:
            now = datetime.now(UTC)
            points = await job_points.scroll(
                client, self._prefix, models.Filter(must=[any_of("open", [job_points.ENDED])])
            )
            return [point.job.id for point in points if point.job.expire_time and point.job.expire_time < now]

        async def remove(client: AsyncQdrantClient) -> None:
            await client.delete(
                jobs_collection(self._prefix),
                points_selector=models.PointIdsList(points=[job_points.job_point_id(job_id) for job_id in old]),
                wait=True,
                ordering=models.WriteOrdering.STRONG,
            )

        old = await self._run(work, timeout_s)
        if old:
            # First what a job left, then the job: what is left of this is done by the next look.
            await self.parts.remove(old, timeout_s=timeout_s)
            await self._run(remove, timeout_s)
        return len(old)

    async def _run(self, work: Work[T], timeout_s: float) -> T:
        try:
            return await self._engine.run(work, timeout_s=timeout_s)
        except CollectionGone:
            raise unavailable("Qdrant is not prepared, or lost its collections") from None

    async def _leased(self, work: Work[T], timeout_s: float) -> T:
        """Do work on a job that this replica has; one that is gone is lost too."""
        try:
            return await self._run(work, timeout_s)
        except job_points.JobGone:
            raise LeaseLost from None
