"""Errors of the services behind the router, as the router's own callers should read them."""

import asyncio
import functools
import re
from collections.abc import Sequence
from typing import Any, TypeVar

import grpc

from lensmesh_chassis.contract import DETAILS_KEY
from lensmesh_chassis.errors import (
    Cancelled,
    DeadlineExceeded,
    LensmeshError,
    Overloaded,
    PreconditionFailed,
    Unavailable,
    UpstreamFault,
    Violation,
)
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error
from router_svc.call_scope import CallScope
from router_svc.upstreams.kinds import Kind

E = TypeVar("E", bound=LensmeshError)
R = TypeVar("R")

# Codes of calls that something on the way ended: no service of the mesh uses them without details.
_TORN = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.ABORTED, grpc.StatusCode.DATA_LOSS}
# No replica takes these, now or later.
_TOO_LARGE = {Reason.MESSAGE_TOO_LARGE, Reason.RESPONSE_TOO_LARGE}
# The directory was a moment behind the replica's models.
_MISLED = {Reason.SPACE_NOT_SERVED, Reason.MODEL_NOT_SERVED}
# A path into a batch as an upstream sees it, at the beginning of a field or of a word of a message.
_ITEM_PATH = re.compile(r"(?<![\w.\]])(?:images|texts|items|embeddings)\[(\d+)\](\.?)")
# What gRPC, and an Envoy on the way, say of a connection whose other end went away under a call.
_ENDED = re.compile(
    r"socket closed|connection reset|broken pipe|end of tcp stream|reset reason: (connection termination|remote reset)",
    re.IGNORECASE,
)
_NOT_ENDED = re.compile(r"failed to connect|backends failing|cancelling all calls|keepalive|ping", re.IGNORECASE)
RETRY_S = 2.0
# The store behind a search service is in trouble: the same for all of its replicas.
STORE_REASONS = {Reason.STORE_UNAVAILABLE, Reason.STORE_READ_ONLY, Reason.STORE_FULL}
# How the reason of a search service that does not serve begins where its store is the cause.
STORE_SAYS = "store: "


def is_broken(error: grpc.RpcError) -> bool:
    """Tell whether the connection or something on the way failed, rather than a service that says what it means.

    A service of the mesh ends its calls with details; a torn stream or a proxy's own trouble comes without.
    """
    return error.code() in _TORN and not _has_details(error)


def _has_details(error: grpc.RpcError) -> bool:
    trailing: Any = error.trailing_metadata() or ()
    return any(key == DETAILS_KEY for key, _ in trailing)


class ReplicaLost(Unavailable):
    """A connection that ended while the replica at its other end worked: what it worked at may have ended it."""


class Hung(Unavailable):
    """A replica that did not answer in time, although its caller would have waited longer."""


def is_lost(error: grpc.RpcError) -> bool:
    """Tell whether a replica ended in the middle of this call.

    Not so where the call never reached one, where one drained and said so, or where it only fell silent: a process that
    was stopped and a network that is cut end connections by their keepalive.
    """
    if error.code() not in _TORN | {grpc.StatusCode.UNAVAILABLE} or _has_details(error):
        return False
    return bool(_ENDED.search(error.details() or "")) and not _NOT_ENDED.search(error.details() or "")


def readable(kind: Kind, reply: R | None) -> R:
    """Check a reply: gRPC hands over None where its bytes cannot be parsed.

    Raises:
        UpstreamFault: INTERNAL, a fault of the service behind and not of the request.
    """
    if reply is None:
        raise UpstreamFault(
            Reason.INTERNAL,
            f"the answer of the {kind.noun} cannot be read: it is damaged, or nests too deeply; its log may say more",
            code=grpc.StatusCode.INTERNAL.value[0],
            metadata={"service": kind.service},
        )
    return reply


def read_error(kind: Kind, rpc_error: grpc.RpcError, scope: CallScope) -> LensmeshError:
    """Tell what became of a call that an upstream did not answer."""
    if is_lost(rpc_error):
        return ReplicaLost(kind.unavailable, f"the {kind.noun} ended in the middle of its work", retry_after_s=1.0)
    if is_broken(rpc_error):
        return Unavailable(kind.unavailable, f"the connection to the {kind.noun} broke", retry_after_s=1.0)
    error = from_rpc_error(rpc_error)
    if isinstance(error, DeadlineExceeded) and (
        scope.deadline is None or asyncio.get_running_loop().time() < scope.deadline - 0.05
    ):
        # The caller has time left: it is the service that hangs.
        return Hung(kind.unavailable, f"the {kind.noun} did not answer in time", retry_after_s=1.0)
    return error


def is_away(error: LensmeshError) -> bool:
    """Tell whether the replica did not do the work because it is gone or going, and another may."""
    return isinstance(error, Unavailable | Cancelled)


def is_busy(error: LensmeshError) -> bool:
    """Tell whether the replica has too much to do now."""
    return isinstance(error, Overloaded) and error.reason not in _TOO_LARGE


def is_misled(error: LensmeshError) -> bool:
    """Tell whether the replica no longer serves what it was chosen for."""
    return isinstance(error, PreconditionFailed) and error.reason in _MISLED


def unavailable(kind: Kind, targets: Sequence[str], cause: LensmeshError | None = None, why: str = "") -> LensmeshError:
    """Say that no service of `kind` took the work. What its own store said stays said as it was.

    `why` is what the services themselves tell of why they do not serve; empty where none answers.
    """
    if not targets:
        return not_configured(kind)
    if cause is not None and cause.reason in STORE_REASONS:
        return cause
    where = ", ".join(targets)
    if why.startswith(STORE_SAYS):
        return Unavailable(
            Reason.STORE_UNAVAILABLE,
            f"the {kind.noun} at {where} does not serve: {why}",
            retry_after_s=(cause.retry_after_s if cause else None) or RETRY_S,
            metadata={"service": kind.service, "targets": where},
        )
    return Unavailable(
        kind.unavailable,
        f"no {kind.noun} serves at {where}: {why}; send again later"
        if why
        else f"no {kind.noun} answers at {where}; send again later",
        retry_after_s=(cause.retry_after_s if cause else None) or RETRY_S,
        metadata={"service": kind.service, "targets": where},
    )


def not_configured(kind: Kind) -> PreconditionFailed:
    """Say that this router has no service of `kind` at all: sending again will not help."""
    error = PreconditionFailed(
        kind.unavailable,
        f"no {kind.noun} is configured for this router: its setting {kind.setting} names none",
        metadata={"service": kind.service, "setting": kind.setting},
    )
    # The reason is one that is worth a retry elsewhere, so the error comes with a delay unless told otherwise.
    error.retry_after_s = None
    return error


def repath(error: E, paths: Sequence[str]) -> E:
    """Return the same error with every path into an upstream's batch ("images[3].content") led back to the caller's.

    `paths` gives the caller's path of each of the upstream's items; one beyond them is told as the last. Where a path
    is empty, it begins with the item's own fields. What names no item stays as it is.
    """
    lead = functools.partial(_ITEM_PATH.sub, functools.partial(_callers_path, paths))
    keywords: dict[str, Any] = {
        "violations": [Violation(lead(violation.field), lead(violation.description)) for violation in error.violations],
        "retry_after_s": error.retry_after_s,
        "metadata": {key: lead(value) for key, value in error.metadata.items()},
    }
    if isinstance(error, UpstreamFault):
        keywords["code"] = error.code
    return type(error)(error.reason, lead(error.message), **keywords)


def _callers_path(paths: Sequence[str], match: re.Match[str]) -> str:
    path = paths[min(int(match.group(1)), len(paths) - 1)]
    return path + match.group(2) if path else ""


def item_indexes(error: LensmeshError) -> set[int]:
    """Find the items of an upstream's batch that an error names."""
    found = (_ITEM_PATH.match(violation.field) for violation in error.violations)
    return {int(match.group(1)) for match in found if match}
