"""Points of jobs in Qdrant, and the one way in which they change.

Qdrant has no transactions. Each change of a job reads its point, and writes it back under the condition that it still
has the version that was read; Qdrant applies writes to a point one after the other.
"""

import json
import uuid
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from qdrant_client import AsyncQdrantClient, models

from search_svc.jobs.errors import error_from_json, error_to_json, no_job
from search_svc.jobs.model import Job, JobEnd, JobProgress, JobState, Lease
from search_svc.jobs.store import LeaseLost
from search_svc.qdrant.layout import jobs_collection, point_id
from search_svc.qdrant.predicates import any_of
from search_svc.refusals import unavailable

_ATTEMPTS = 20
_PAGE = 256
# What a point has besides its parameters, which may be large.
_SMALL = ["id", "version", "token", "lease_until", "open", "job"]
_MOMENTS = ("create_time", "start_time", "end_time", "expire_time")
OPEN, ENDED = "open", "ended"


class JobPoint:
    """A job as it was read: its version, and who has it until when."""

    def __init__(self, payload: dict[str, Any]) -> None:
        self.version: str = payload["version"]
        self.token: str = payload["token"]
        self.lease_until: float = payload["lease_until"]
        self.job = _job(payload)

    def is_due(self, now: float) -> bool:
        """Tell whether anybody may take the job."""
        return not self.job.state.has_ended and (self.job.state is JobState.PENDING or self.lease_until < now)


Change = Callable[[JobPoint], dict[str, Any]]
"""Returns what is to be written of a job. Raises to write nothing."""


class JobGone(Exception):  # noqa: N818 - a state, read as a sentence where it is caught
    """There is no such job."""


async def hold(client: AsyncQdrantClient, prefix: str, lease: Lease) -> None:
    """Raise LeaseLost unless the lease is the job's newest one at this moment."""
    there = await find(client, prefix, lease.job_id)
    if there is None or there.token != lease.token:
        raise LeaseLost


async def save(
    client: AsyncQdrantClient, prefix: str, lease: Lease, progress: JobProgress, *, lasting: bool = True
) -> None:
    """Save progress. Raises LeaseLost."""

    def change(point: JobPoint) -> dict[str, Any]:
        idle = 0 if lasting else point.job.idle_attempts
        return written(replace(point.job, progress=progress, idle_attempts=idle))

    await change_job(client, prefix, lease.job_id, under(lease, change))


def under(lease: Lease, change: Change) -> Change:
    """Return a change that is done only while the lease holds."""

    def checked(point: JobPoint) -> dict[str, Any]:
        if point.token != lease.token:
            raise LeaseLost
        return change(point)

    return checked


async def change_job(client: AsyncQdrantClient, prefix: str, job_id: str, change: Change) -> None:
    """Change a job as it is now, again where somebody else changed it meanwhile."""
    for _ in range(_ATTEMPTS):
        point = await find(client, prefix, job_id)
        if point is None:
            raise JobGone
        written = change(point)
        if not written:
            return
        version = str(uuid.uuid4())
        unchanged = models.Filter(
            must=[models.HasIdCondition(has_id=[job_point_id(job_id)]), any_of("version", [point.version])]
        )
        await client.set_payload(
            jobs_collection(prefix),
            {**written, "version": version},
            points=unchanged,
            wait=True,
            ordering=models.WriteOrdering.STRONG,
        )
        now = await find(client, prefix, job_id)
        if now is not None and now.version == version:
            return
    raise unavailable("the job was changed by others each time it was tried")


async def read(client: AsyncQdrantClient, prefix: str, job_id: str) -> JobPoint:
    """Return a job with its parameters. Raises NotFound (JOB_NOT_FOUND)."""
    point = await find(client, prefix, job_id, with_parameters=True)
    if point is None:
        raise no_job(job_id)
    return point


async def find(
    client: AsyncQdrantClient, prefix: str, job_id: str, *, with_parameters: bool = False
) -> JobPoint | None:
    """Return a job, or None."""
    records = await client.retrieve(
        jobs_collection(prefix), [job_point_id(job_id)], with_payload=True if with_parameters else _SMALL
    )
    return JobPoint(records[0].payload) if records and records[0].payload else None


async def scroll(client: AsyncQdrantClient, prefix: str, chosen: models.Filter | None) -> list[JobPoint]:
    """Return all jobs that a filter chooses, without their parameters."""
    found: list[JobPoint] = []
    offset: Any = None
    while True:
        records, offset = await client.scroll(
            jobs_collection(prefix), scroll_filter=chosen, limit=_PAGE, offset=offset, with_payload=_SMALL
        )
        found += [JobPoint(record.payload) for record in records if record.payload]
        if offset is None:
            return found


def work_of(job: Job) -> tuple[str, str]:
    """Return what only one job at a time may have: its kind and collection."""
    return job.kind, job.collection_key


def open_alone() -> models.Filter:
    """Return the filter for jobs that have not ended."""
    return models.Filter(must=[any_of("open", [OPEN])])


def job_point_id(job_id: str) -> str:
    """Return the id of a job's point."""
    return point_id(f"#job:{job_id}")


def held(token: str, lease_s: float = 0.0) -> dict[str, Any]:
    """Return what is written of a job that a replica has from now on; nobody, where the token is empty."""
    return {"token": token, "lease_until": datetime.now(UTC).timestamp() + lease_s}


def ended(job: Job, end: JobEnd, keep_s: float) -> dict[str, Any]:
    """Return what is written of a job that ends now."""
    now = datetime.now(UTC)
    last = replace(
        job,
        state=end.state,
        error=end.error,
        result=end.result,
        progress=replace(job.progress, message=""),
        end_time=now,
        expire_time=now + timedelta(seconds=keep_s),
    )
    return {**held(""), **written(last)}


def written(job: Job) -> dict[str, Any]:
    """Return what is written of a job that changes. It has its parameters already."""
    kept = asdict(replace(job, error=None, parameters=""))
    kept |= {name: kept[name] and kept[name].isoformat() for name in _MOMENTS}
    kept |= {"error": error_to_json(job.error), "state": str(job.state)}
    return {"job": json.dumps(kept), "open": ENDED if job.state.has_ended else OPEN}


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
