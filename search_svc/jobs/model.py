"""Types of jobs. They know neither gRPC nor protobuf nor any database."""

from collections.abc import Collection as Some
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from lensmesh_chassis.errors import LensmeshError

# Of a job's parameters as JSON: a filter with ten thousand values of a hundred characters.
MAX_PARAMETERS_BYTES = 1024 * 1024
MAX_MESSAGE_CHARS = 500
# Jobs that wait or run, of one store.
MAX_OPEN_JOBS = 1_000


class JobState(StrEnum):
    """State of a job."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        """True where nothing of the job changes any more."""
        return self not in (JobState.PENDING, JobState.RUNNING)


@dataclass(frozen=True)
class NewJob:
    """A job that somebody asks for."""

    id: str
    kind: str
    collection: str
    collection_key: str
    """The store's own name of this very collection; see `Collection.key`."""
    parameters: str
    """JSON of an object."""
    trace: str = ""
    """The `traceparent` of the call that asks for it; empty where that has no trace."""


@dataclass(frozen=True)
class JobProgress:
    """Progress of a job, as its worker saves it."""

    done: int = 0
    total: int = 0
    """0 while it is not known."""
    rate: float = 0.0
    """Units a second."""
    message: str = ""
    checkpoint: str = "{}"
    """JSON of an object: all that another replica needs to go on."""


@dataclass(frozen=True)
class JobEnd:
    """End of a job."""

    state: JobState
    error: LensmeshError | None = None
    result: str = "{}"
    """JSON of an object, of a job that succeeded."""


@dataclass(frozen=True)
class Job:
    """A job as its store knows it. In lists `parameters` is empty."""

    id: str
    kind: str
    collection: str
    collection_key: str
    parameters: str
    state: JobState
    create_time: datetime
    progress: JobProgress = JobProgress()
    cancel_requested: bool = False
    error: LensmeshError | None = None
    result: str = "{}"
    start_time: datetime | None = None
    end_time: datetime | None = None
    expire_time: datetime | None = None
    attempts: int = 0
    idle_attempts: int = 0
    """Attempts since it last saved progress."""
    trace: str = ""


@dataclass(frozen=True)
class Lease:
    """The right to work on a job. Each taking of a job makes another token, and only the newest one counts."""

    job_id: str
    token: str


@dataclass(frozen=True)
class LeasedJob:
    """A job that this replica works on."""

    job: Job
    lease: Lease


@dataclass(frozen=True)
class JobSelection:
    """Selection of the jobs of a list; what is empty chooses all."""

    collection: str = ""
    kind: str = ""
    states: Some[JobState] = ()

    def chooses(self, job: Job) -> bool:
        """Tell whether a job is one of them."""
        return (
            self.collection in ("", job.collection)
            and self.kind in ("", job.kind)
            and (not self.states or job.state in self.states)
        )
