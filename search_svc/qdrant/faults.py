"""Translation of Qdrant's errors for callers. Their own texts go to the log at most: they may name hosts and values."""

import errno
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse

from lensmesh_chassis.errors import InternalFault
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry.logging import get_logger
from search_svc.refusals import store_full, too_late, unavailable

_log = get_logger(__name__)
_LOCAL_GONE = re.compile(r"Collection .* not found")
_LOCAL_THERE = re.compile(r"Collection .* already exists")
# The server's words for a full disk, which it calls an internal error.
FULL = re.compile("no space left on device", re.IGNORECASE)
Code = grpc.StatusCode
_REASONS = {
    Code.UNAVAILABLE: "Qdrant is not reachable",
    Code.UNAUTHENTICATED: "Qdrant refuses this service's API key",
    Code.PERMISSION_DENIED: "Qdrant refuses this service's API key",
    Code.RESOURCE_EXHAUSTED: "Qdrant has no room left, or takes no more calls now",
    Code.FAILED_PRECONDITION: "Qdrant cannot do that now",
    Code.ABORTED: "Qdrant cannot do that now",
    Code.CANCELLED: "Qdrant broke the call off",
    Code.INTERNAL: "Qdrant failed",
    Code.UNKNOWN: "Qdrant failed",
    Code.DATA_LOSS: "Qdrant failed",
    Code.UNIMPLEMENTED: "what answers at Qdrant's address is no Qdrant: 6334 is the port of its gRPC API",
}


class CollectionGone(Exception):  # noqa: N818 - a state, read as a sentence where it is caught
    """The Qdrant collection that a call names is not there."""


class There(Exception):  # noqa: N818 - as above
    """The Qdrant collection that a call would make is there already."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise what the client raises inside as `CollectionGone`, `There` or a domain error.

    A bug of ours passes unchanged.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        code = error.code()
        if FULL.search(error.details() or ""):
            raise store_full() from None
        if code is Code.NOT_FOUND:
            raise CollectionGone from None
        # Older servers call a name that is taken an invalid argument.
        if code is Code.ALREADY_EXISTS or (
            code is Code.INVALID_ARGUMENT and "already exists" in (error.details() or "")
        ):
            raise There from None
        if code is Code.DEADLINE_EXCEEDED:
            raise too_late() from None
        if code not in _REASONS:
            # This service checks what it sends: a request that Qdrant calls wrong is a defect of ours, or a setting of
            # the server's (strict mode) that docs/stores.md tells of.
            _log.error("qdrant refused a request", code=code.name, details=error.details())
            raise InternalFault(Reason.INTERNAL, "Qdrant refused a request of this service: its log says why") from None
        if code not in (Code.UNAVAILABLE, Code.UNAUTHENTICATED, Code.PERMISSION_DENIED):
            _log.warning("qdrant answered with an error", code=code.name, details=error.details())
        raise unavailable(_REASONS[code]) from None
    except ResourceExhaustedResponse:
        raise unavailable(_REASONS[Code.RESOURCE_EXHAUSTED]) from None
    except ValueError as error:
        # Local mode says so in words alone.
        if _LOCAL_GONE.fullmatch(str(error)):
            raise CollectionGone from None
        if _LOCAL_THERE.fullmatch(str(error)):
            raise There from None
        raise
    except (sqlite3.Error, OSError) as error:
        # Local mode's own files.
        _log.warning("qdrant's folder cannot be used", why=str(error))
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
            raise store_full() from None
        raise unavailable("the folder of Qdrant's local mode cannot be read or written") from None
