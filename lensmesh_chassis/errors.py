"""The errors that lensmesh code raises. Only rpc/status.py knows which gRPC code each one becomes:

    LensmeshError               (abstract)
     +-- InvalidInput           INVALID_ARGUMENT     wrong whatever the state; `field` is a dotted path
     +-- NotFound               NOT_FOUND            a named collection or item is not there
     +-- AlreadyExists          ALREADY_EXISTS       the name is taken by something else
     +-- PreconditionFailed     FAILED_PRECONDITION  right in itself, wrong here: other space, field not indexed
     +-- Overloaded             RESOURCE_EXHAUSTED   queues are full, or a message exceeds the transport
     +-- Unavailable            UNAVAILABLE          draining, starting, or a dependency is away: send again
     +-- NotBuilt               UNIMPLEMENTED        in the contract, not in this release
     +-- DeadlineExceeded       DEADLINE_EXCEEDED    the caller's time ran out before the work was done
     +-- Cancelled              CANCELLED            the caller left
     +-- PermissionDenied       PERMISSION_DENIED    the caller is known and may not
     +-- InternalFault          INTERNAL             lensmesh is at fault; the message is written for callers
     +-- UpstreamFault          (keeps the code)     any other code that a peer answered

Any other exception is a bug: it becomes INTERNAL, and nothing of its text leaves the process.
"""
# ruff: noqa: N818 - what went wrong reads better in an except clause than InvalidInputError; all end in LensmeshError.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lensmesh_chassis.reasons import Reason

# What a caller is told to wait where the service has no better prediction.
DEFAULT_RETRY_AFTER_S = 1.0

_TEMPORARY = frozenset(
    {
        Reason.OVERLOADED,
        Reason.DRAINING,
        Reason.NOT_READY,
        Reason.ENCODER_UNAVAILABLE,
        Reason.CAPTIONER_UNAVAILABLE,
        Reason.SEARCH_UNAVAILABLE,
        Reason.STORE_UNAVAILABLE,
        Reason.STORE_READ_ONLY,
        Reason.STORE_FULL,
        Reason.MEDIA_UNAVAILABLE,
    }
)


@dataclass(frozen=True)
class Violation:
    """A wrong field: its dotted path in the request ("images[3].content") and what is wrong with it."""

    field: str
    description: str


class LensmeshError(Exception):
    """Base of all errors that may reach a caller. Its message names the field, the limit and the fix.

    `field` is short for one violation with the message as its description. Values in the message belong in `metadata`
    too. `retry_after_s` says when trying again makes sense. Where it is not given, a reason that passes by itself
    (OVERLOADED, DRAINING, NOT_READY, ..._UNAVAILABLE) gets one second, any other None.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        field: str = "",
        violations: Sequence[Violation] = (),
        retry_after_s: float | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        if type(self) is LensmeshError:
            raise TypeError("LensmeshError is abstract: raise one of its subclasses")
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.violations = (Violation(field, message), *violations) if field else tuple(violations)
        self.retry_after_s = retry_after_s
        if retry_after_s is None and reason in _TEMPORARY:
            self.retry_after_s = DEFAULT_RETRY_AFTER_S
        self.metadata = {key: str(value) for key, value in (metadata or {}).items()}


class InvalidInput(LensmeshError):
    """The request is wrong, whatever the state of the system."""


class NotFound(LensmeshError):
    """Something the request names is not there."""


class AlreadyExists(LensmeshError):
    """The name is taken by something else."""


class PreconditionFailed(LensmeshError):
    """The request is right in itself and does not fit what is there: another space, a field without index."""


class Overloaded(LensmeshError):
    """No room now."""


class Unavailable(LensmeshError):
    """The service, or what it depends on, cannot answer now."""


class NotBuilt(LensmeshError):
    """Part of the contract that this release does not do; `field` in the metadata names it."""


class DeadlineExceeded(LensmeshError):
    """The caller's deadline passed before the work was done."""


class Cancelled(LensmeshError):
    """The caller left before the work was done."""


class PermissionDenied(LensmeshError):
    """The caller is known and may not do this."""


class InternalFault(LensmeshError):
    """lensmesh is at fault and can say so in words meant for a caller."""


class UpstreamFault(LensmeshError):
    """A code without a class of its own, as a peer answered it. `code` is the number of the gRPC code."""

    def __init__(self, reason: Reason, message: str, *, code: int = 2, **details: Any) -> None:
        super().__init__(reason, message, **details)
        self.code = code
