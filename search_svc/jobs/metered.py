"""A wrapper around the jobs of any store: each operation is measured as those of the store are."""

from collections.abc import Sequence

from search_svc.jobs.model import Job, JobEnd, JobProgress, JobSelection, Lease, LeasedJob, NewJob
from search_svc.jobs.store import JobStore, PartStore, ResultPart
from search_svc.meter import StoreMeter

JOB_OPERATIONS = (
    "job_start",
    "job_get",
    "job_list",
    "job_cancel",
    "job_take",
    "job_renew",
    "job_save",
    "job_hand_back",
    "job_end",
    "job_remove_expired",
)
PART_OPERATIONS = ("part_write", "part_read", "part_find", "part_remove")


class MeteredJobs:
    """Jobs that are measured; see `JobStore`."""

    def __init__(self, jobs: JobStore, meter: StoreMeter) -> None:
        self._jobs = jobs
        self._timed = meter.timed
        self._parts = MeteredParts(jobs.parts, meter)

    @property
    def parts(self) -> PartStore:
        return self._parts

    async def start(self, new: NewJob, *, timeout_s: float) -> Job:
        return await self._timed("job_start", self._jobs.start(new, timeout_s=timeout_s))

    async def get(self, job_id: str, *, timeout_s: float) -> Job:
        return await self._timed("job_get", self._jobs.get(job_id, timeout_s=timeout_s))

    async def list(self, chosen: JobSelection, *, after: str, count: int, timeout_s: float) -> Sequence[Job]:
        listed = self._jobs.list(chosen, after=after, count=count, timeout_s=timeout_s)
        return await self._timed("job_list", listed)

    def position(self, job: Job) -> str:
        return self._jobs.position(job)

    async def cancel(self, job_id: str, *, keep_s: float, timeout_s: float) -> Job:
        return await self._timed("job_cancel", self._jobs.cancel(job_id, keep_s=keep_s, timeout_s=timeout_s))

    async def take(self, kinds: Sequence[str], *, lease_s: float, timeout_s: float) -> LeasedJob | None:
        return await self._timed("job_take", self._jobs.take(kinds, lease_s=lease_s, timeout_s=timeout_s))

    async def renew(self, lease: Lease, *, lease_s: float, timeout_s: float) -> bool:
        return await self._timed("job_renew", self._jobs.renew(lease, lease_s=lease_s, timeout_s=timeout_s))

    async def save(self, lease: Lease, progress: JobProgress, *, lasting: bool = True, timeout_s: float) -> None:
        await self._timed("job_save", self._jobs.save(lease, progress, lasting=lasting, timeout_s=timeout_s))

    async def hand_back(self, lease: Lease, *, timeout_s: float) -> None:
        await self._timed("job_hand_back", self._jobs.hand_back(lease, timeout_s=timeout_s))

    async def end(self, lease: Lease, end: JobEnd, *, keep_s: float, timeout_s: float) -> None:
        await self._timed("job_end", self._jobs.end(lease, end, keep_s=keep_s, timeout_s=timeout_s))

    async def remove_expired(self, *, timeout_s: float) -> int:
        return await self._timed("job_remove_expired", self._jobs.remove_expired(timeout_s=timeout_s))


class MeteredParts:
    """Large results of jobs that are measured; see `PartStore`."""

    def __init__(self, parts: PartStore, meter: StoreMeter) -> None:
        self._parts = parts
        self._timed = meter.timed

    async def write(self, lease: Lease, part: ResultPart, *, timeout_s: float) -> None:
        await self._timed("part_write", self._parts.write(lease, part, timeout_s=timeout_s))

    async def read(self, job_id: str, token: str, number: int, *, timeout_s: float) -> ResultPart | None:
        return await self._timed("part_read", self._parts.read(job_id, token, number, timeout_s=timeout_s))

    async def find(self, job_id: str, token: str, first: int, *, timeout_s: float) -> int:
        return await self._timed("part_find", self._parts.find(job_id, token, first, timeout_s=timeout_s))

    async def remove(self, job_ids: Sequence[str], *, but: str = "", timeout_s: float) -> None:
        await self._timed("part_remove", self._parts.remove(job_ids, but=but, timeout_s=timeout_s))
