"""The errors a client raises, and the same classes as values where one item of many failed.

Each class stands for one gRPC code. Every error has `reason` (what to test for), `message` (what to show a person),
`retry_after_s` (seconds to wait before the same call can work, None where waiting does not help), `violations` (dotted
paths of the fields at fault) and `metadata`. The reasons are listed in `protos/README.md`.

    LensmeshError
    ├── InvalidInput         INVALID_ARGUMENT     the call or the item can never work as it is
    ├── NotFound             NOT_FOUND            no such collection or item
    ├── AlreadyExists        ALREADY_EXISTS       the name is taken by something else
    ├── PreconditionFailed   FAILED_PRECONDITION  wrong vector space, model not served, field not indexed
    ├── Overloaded           RESOURCE_EXHAUSTED   too much at once, or too large a message
    ├── Unavailable          UNAVAILABLE          nobody answers, or the service drains
    ├── NotBuilt             UNIMPLEMENTED        this server does not know that yet
    ├── DeadlineExceeded     DEADLINE_EXCEEDED    not done within `timeout_s`
    ├── Cancelled            CANCELLED            given up by the other side
    ├── PermissionDenied     PERMISSION_DENIED    known, and not allowed
    ├── InternalFault        INTERNAL             a defect of the service; its request id stands in `metadata`
    └── UpstreamFault        any other code
"""

from lensmesh_chassis.errors import (
    AlreadyExists,
    Cancelled,
    DeadlineExceeded,
    InternalFault,
    InvalidInput,
    LensmeshError,
    NotBuilt,
    NotFound,
    Overloaded,
    PermissionDenied,
    PreconditionFailed,
    Unavailable,
    UpstreamFault,
    Violation,
)
from lensmesh_chassis.reasons import Reason

__all__ = [
    "AlreadyExists",
    "Cancelled",
    "DeadlineExceeded",
    "InternalFault",
    "InvalidInput",
    "LensmeshError",
    "NotBuilt",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "PreconditionFailed",
    "Reason",
    "Unavailable",
    "UpstreamFault",
    "Violation",
]
