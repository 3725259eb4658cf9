"""Jobs as a client sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from lensmesh_chassis.errors import LensmeshError


class JobKind(StrEnum):
    """The work of a job."""

    DELETE_ITEMS = "delete_items"
    REBUILD_INDEXES = "rebuild_indexes"
    FIND_DUPLICATES = "find_duplicates"
    CALIBRATE = "calibrate"


class JobState(StrEnum):
    """State of a job."""

    PENDING = "pending"
    """It waits until a replica takes it up."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It cannot go on; `Job.error` says why."""
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        """True where nothing of the job changes any more."""
        return self not in (JobState.PENDING, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class Job:
    """Work on a collection that takes longer than a call."""

    id: str
    kind: JobKind | None
    """None for a kind that this client does not know."""
    collection: str
    state: JobState
    done_count: int = 0
    """Number of what is done: items, unless its kind counts something else."""
    total_count: int = 0
    """Of how many; 0 while that is not known."""
    units_per_second: float = 0.0
    """0 while that is not known."""
    time_left_s: float | None = None
    """About how long it will run from now on; None while that is not known."""
    message: str = ""
    """Text that says what it does or waits for just now."""
    cancel_requested: bool = False
    error: LensmeshError | None = None
    """Error that it failed with."""
    attempt_count: int = 0
    """Number of times that a replica took it up; more than 1 where one ended in the middle."""
    create_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    expire_time: datetime | None = None
    """Time when a job that ended is forgotten."""
    result: Mapping[str, object] = field(default_factory=dict)
    """Result, by the names of the contract's result: {"deleted_count": 7}. Empty unless it succeeded."""

    @property
    def share(self) -> float:
        """About how much of it is done, 0 to 1."""
        if self.state is JobState.SUCCEEDED:
            return 1.0
        return min(1.0, self.done_count / self.total_count) if self.total_count else 0.0
