"""The kinds of jobs. A new one is a module with a worker, and an entry here; docs/jobs.md walks through one."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from search_svc.jobs import calibrate, delete_items, find_duplicates, rebuild_indexes
from search_svc.jobs.context import JobContext


@dataclass(frozen=True, slots=True)
class JobType:
    """A kind of job."""

    name: str
    """Name in the contract's JobKind, in small letters: JOB_KIND_DELETE_ITEMS is "delete_items"."""
    work: Callable[[JobContext], Awaitable[str]]
    """Does the job, or what an earlier attempt left of it. Returns the result as JSON.

    Its task is cancelled when the job is, when this replica ends, and when another one took the job. What it raises
    ends the job as FAILED, but `Unavailable` and `DeadlineExceeded` let it wait a moment and go on from the last
    checkpoint. `JobFailed` ends it whatever the error.
    """
    undo: Callable[[JobContext], Awaitable[None]] | None = None
    """Takes away what a job leaves that failed or was cancelled; None: it leaves nothing."""


_ALL = (
    JobType("delete_items", delete_items.work),
    JobType("rebuild_indexes", rebuild_indexes.work, rebuild_indexes.undo),
    JobType("calibrate", calibrate.work),
    JobType(find_duplicates.KIND, find_duplicates.work, find_duplicates.undo),
)
KINDS: Mapping[str, JobType] = {kind.name: kind for kind in _ALL}
