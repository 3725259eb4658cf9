"""The protocol by which every store keeps jobs. The same tests run against each implementation."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from search_svc.jobs.model import Job, JobEnd, JobProgress, JobSelection, Lease, LeasedJob, NewJob
from search_svc.model import DeletedBatch

Report: TypeAlias = Callable[[float], Awaitable[None]]
"""Told how much of some work is done, 0 to 1. What it raises ends the work."""


class LeaseLost(Exception):  # noqa: N818 - not an error of anybody's: another replica has the job, or it is gone
    """The lease is not the job's newest one. Nothing was written."""


@dataclass(frozen=True)
class LeasedWrite:
    """A write of a job: it is done only while the lease holds, and its progress is saved with it.

    In PostgreSQL that is one transaction. Qdrant looks at the lease before the write, and saves after it.
    """

    lease: Lease
    progress: Callable[[DeletedBatch], JobProgress]


@dataclass(frozen=True)
class ResultPart:
    """A part of a result that is too large to be kept in one piece."""

    number: int
    """From 0, without gaps."""
    first: int
    """Number of the first thing that begins in this part or behind it: it never falls from part to part."""
    content: str


class PartStore(Protocol):
    """Large results of jobs, part by part. They go with their jobs.

    Each attempt writes its own, under the token of its lease, and a job's result names the attempt that ended it. So
    nothing of an attempt that was lost is ever read.
    """

    async def write(self, lease: Lease, part: ResultPart, *, timeout_s: float) -> None:
        """Keep a part. Written again it is replaced.

        Raises:
            LeaseLost: another replica has the job.
        """

    async def read(self, job_id: str, token: str, number: int, *, timeout_s: float) -> ResultPart | None:
        """Return a part of what the attempt with that token wrote; None where there is no such part, or no more."""

    async def find(self, job_id: str, token: str, first: int, *, timeout_s: float) -> int:
        """Return the number of the last part whose `first` is not above this one; -1 where there is none."""

    async def remove(self, job_ids: Sequence[str], *, but: str = "", timeout_s: float) -> None:
        """Remove all parts of these jobs, but those of the attempt with the token `but`."""


class JobStore(Protocol):
    """Jobs of a store. Times are the store's where it has a clock (PostgreSQL), else the replica's.

    Methods raise `Unavailable` while the store cannot be reached and `DeadlineExceeded` after `timeout_s` seconds.
    """

    @property
    def parts(self) -> PartStore:
        """Their results, where these are large."""

    async def start(self, new: NewJob, *, timeout_s: float) -> Job:
        """Keep a job, PENDING, or return the one of that id if it was asked for with the same parameters.

        Raises:
            AlreadyExists: JOB_EXISTS, the id is another job's.
            Overloaded: MAX_OPEN_JOBS wait or run.
        """

    async def get(self, job_id: str, *, timeout_s: float) -> Job:
        """Return a job.

        Raises:
            NotFound: JOB_NOT_FOUND.
        """

    async def list(self, chosen: JobSelection, *, after: str, count: int, timeout_s: float) -> Sequence[Job]:
        """Return up to `count` jobs, newest first, without parameters, behind the position `after` ("": the first)."""

    def position(self, job: Job) -> str:
        """Return the position right behind a job, for `list`."""

    async def cancel(self, job_id: str, *, keep_s: float, timeout_s: float) -> Job:
        """Note that a job shall end, and end it at once where nobody began with it. One that ended stays as it is.

        What is ended at once is kept for `keep_s` seconds.

        Raises:
            NotFound: JOB_NOT_FOUND.
        """

    async def take(self, kinds: Sequence[str], *, lease_s: float, timeout_s: float) -> LeasedJob | None:
        """Take the oldest job of these kinds that nobody has a lease on, for `lease_s` seconds; None: there is none.

        A job waits while another one of its kind runs on its collection.
        """

    async def renew(self, lease: Lease, *, lease_s: float, timeout_s: float) -> bool:
        """Hold a job for `lease_s` seconds from now on. Return whether somebody wants it cancelled.

        Raises:
            LeaseLost: another replica has it.
        """

    async def save(self, lease: Lease, progress: JobProgress, *, lasting: bool = True, timeout_s: float) -> None:
        """Save how far a job is. What does not last is of no use to another attempt, which begins anew.

        Raises:
            LeaseLost: another replica has it.
        """

    async def hand_back(self, lease: Lease, *, timeout_s: float) -> None:
        """Give a job back, so that another replica takes it up at once. Nothing happens where the lease is lost."""

    async def end(self, lease: Lease, end: JobEnd, *, keep_s: float, timeout_s: float) -> None:
        """End a job, and keep it for `keep_s` seconds.

        Raises:
            LeaseLost: another replica has it.
        """

    async def remove_expired(self, *, timeout_s: float) -> int:
        """Remove the jobs that were kept long enough. Return how many."""
