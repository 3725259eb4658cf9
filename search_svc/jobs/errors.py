"""Errors of jobs: those that callers see, and errors as stores keep them."""

import json

from lensmesh_chassis import errors
from lensmesh_chassis.errors import (
    AlreadyExists,
    InternalFault,
    InvalidInput,
    LensmeshError,
    NotFound,
    Overloaded,
    PreconditionFailed,
)
from lensmesh_chassis.reasons import Reason
from search_svc.jobs.model import MAX_OPEN_JOBS, MAX_PARAMETERS_BYTES

_REASONS = {str(reason): reason for reason in Reason}


class JobFailed(Exception):  # noqa: N818 - read as a sentence where it is caught
    """A job cannot go on, though its error is one that others would wait for: a full disk, say."""

    def __init__(self, error: LensmeshError) -> None:
        super().__init__(error.message)
        self.error = error


def no_job(job_id: str, field: str = "id") -> NotFound:
    """Build the error for a job that nobody started, or that was forgotten."""
    return NotFound(
        Reason.JOB_NOT_FOUND,
        f"there is no job {job_id[:80]!r}: nobody started it, or it ended and was kept long enough",
        field=field,
        metadata={"job_id": job_id[:80]},
    )


def other_job(job_id: str) -> AlreadyExists:
    """Build the error for an id that is another job's."""
    return AlreadyExists(
        Reason.JOB_EXISTS,
        f"the job {job_id} was started with other parameters: choose another job_id, or leave it out",
        field="job_id",
        metadata={"job_id": job_id},
    )


def not_ended(job_id: str) -> PreconditionFailed:
    """Build the error for the result of a job that waits or runs."""
    return PreconditionFailed(
        Reason.JOB_NOT_ENDED,
        f"the job {job_id} has not ended: wait for its end, as WatchJob tells it, then ask again",
        field="job_id",
        metadata={"job_id": job_id},
    )


def no_result(job_id: str, why: str) -> PreconditionFailed:
    """Build the error for the result of a job that has none, or none any more."""
    return PreconditionFailed(
        Reason.JOB_WITHOUT_RESULT,
        f"the job {job_id} has no result ({why}): start another one",
        field="job_id",
        metadata={"job_id": job_id},
    )


def too_many_jobs() -> Overloaded:
    """Build the error for a store that has no room for another job."""
    return Overloaded(
        Reason.OVERLOADED, f"{MAX_OPEN_JOBS} jobs wait or run: wait for some of them, or cancel some", retry_after_s=60
    )


def parameters_too_large(size_bytes: int, field: str) -> InvalidInput:
    """Build the error for parameters that are too large to keep."""
    return InvalidInput(
        Reason.JOB_INVALID,
        f"the parameters have {size_bytes} bytes as JSON, and a job keeps up to {MAX_PARAMETERS_BYTES}: start several"
        " jobs, each with a part of them",
        field=field,
        metadata={"size_bytes": size_bytes, "limit_bytes": MAX_PARAMETERS_BYTES},
    )


def error_to_json(error: LensmeshError | None) -> str:
    """Write an error as the text that stores keep; empty for none."""
    if error is None:
        return ""
    kept = {
        "class": type(error).__name__,
        "reason": str(error.reason),
        "message": error.message,
        "metadata": error.metadata,
    }
    return json.dumps(kept)


def error_from_json(text: str) -> LensmeshError | None:
    """Read an error from the text that a store kept. One of a newer release becomes an InternalFault."""
    if not text:
        return None
    kept = json.loads(text)
    known = getattr(errors, kept["class"], None)
    kind = known if isinstance(known, type) and issubclass(known, LensmeshError) else InternalFault
    made: LensmeshError = kind(
        _REASONS.get(kept["reason"], Reason.UNKNOWN), kept["message"], metadata=kept.get("metadata")
    )
    return made
