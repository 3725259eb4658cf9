"""Translation of domain errors to google.rpc.Status and back: the only place that knows which code an error becomes."""

import contextlib
import logging
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from lensmesh_chassis import errors
from lensmesh_chassis.contract import DETAILS_KEY
from lensmesh_chassis.errors import LensmeshError, UpstreamFault, Violation
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.request_id import request_id as current_request_id
from lensmesh_chassis.telemetry import spans
from lensmesh_chassis.telemetry.error_tracking import capture

DOMAIN = "lensmesh"
# gRPC refuses metadata at random above 8 KiB and always above 16 KiB; a percent-encoded message and the details share
# it.
MAX_MESSAGE_BYTES = 1000
MAX_DETAILS_BYTES = 4096
MAX_VIOLATIONS = 16
MAX_METADATA_VALUE_CHARS = 256

_log = logging.getLogger(__name__)

_CODES: dict[type[LensmeshError], int] = {
    errors.InvalidInput: code_pb2.INVALID_ARGUMENT,
    errors.NotFound: code_pb2.NOT_FOUND,
    errors.AlreadyExists: code_pb2.ALREADY_EXISTS,
    errors.PreconditionFailed: code_pb2.FAILED_PRECONDITION,
    errors.Overloaded: code_pb2.RESOURCE_EXHAUSTED,
    errors.Unavailable: code_pb2.UNAVAILABLE,
    errors.NotBuilt: code_pb2.UNIMPLEMENTED,
    errors.DeadlineExceeded: code_pb2.DEADLINE_EXCEEDED,
    errors.Cancelled: code_pb2.CANCELLED,
    errors.PermissionDenied: code_pb2.PERMISSION_DENIED,
    errors.InternalFault: code_pb2.INTERNAL,
}
_CLASSES = {code: cls for cls, code in _CODES.items()}
# What a code without details most likely means.
_REASONS: dict[int, Reason] = {
    code_pb2.RESOURCE_EXHAUSTED: Reason.OVERLOADED,
    code_pb2.UNIMPLEMENTED: Reason.NOT_IMPLEMENTED,
    code_pb2.DEADLINE_EXCEEDED: Reason.DEADLINE_EXCEEDED,
    code_pb2.CANCELLED: Reason.CANCELLED,
    code_pb2.PERMISSION_DENIED: Reason.PERMISSION_DENIED,
    code_pb2.INTERNAL: Reason.INTERNAL,
}
GRPC_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def to_status(error: BaseException, request_id: str = "") -> status_pb2.Status:
    """Return the status that a caller gets for `error`, for a whole call or for one item of it.

    A LensmeshError keeps its message and details (cut to 16 violations and 4 KiB). A peer's gRPC error is first turned
    into the LensmeshError that it stands for. Anything else is logged with its traceback and becomes INTERNAL with
    nothing but the request id.
    """
    request_id = request_id or current_request_id.get()
    if isinstance(error, grpc.RpcError):
        error = from_rpc_error(error)
    if not isinstance(error, LensmeshError):
        _log.error("unexpected exception", exc_info=error)
        capture(error)
        named = f" The service's log tells more under request id {request_id}." if request_id else ""
        error = errors.InternalFault(Reason.INTERNAL, f"Internal error; nothing is wrong with the request.{named}")
    elif isinstance(error, errors.InternalFault) and "request_id" not in error.metadata:
        # With a request id it is a peer's, which has reported it.
        capture(error)
    code = _code_of(error)
    metadata = dict(error.metadata)
    if code == code_pb2.INTERNAL and request_id:
        metadata.setdefault("request_id", request_id)
    status = status_pb2.Status(code=code, message=_cut(_clean(error.message), MAX_MESSAGE_BYTES))
    _add(status, _error_info(error.reason, metadata))
    if error.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(max(0, int(error.retry_after_s * 1e9)))
        _add(status, retry)
    _add_violations(status, error.violations)
    return status


def from_status(status: status_pb2.Status) -> LensmeshError:
    """Return the typed error that a status stands for.

    A reason not known here becomes Reason.UNKNOWN, with its name in the metadata.
    """
    error = _from_status(status)
    # It arose in another process, whose span has it.
    spans.mark_recorded(error)
    return error


def _from_status(status: status_pb2.Status) -> LensmeshError:
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in status.details:
        for known in (info, bad, retry):
            if detail.Is(known.DESCRIPTOR):
                # A detail that cannot be read explains nothing; the code and the message still do.
                with contextlib.suppress(DecodeError):
                    detail.Unpack(known)
    metadata = dict(info.metadata)
    if not info.reason:
        reason = _REASONS.get(status.code, Reason.UNKNOWN)
    elif info.reason in Reason.__members__:
        reason = Reason(info.reason)
    else:
        reason = Reason.UNKNOWN
        metadata.setdefault("reason", info.reason)
    keywords: dict[str, Any] = {
        "violations": tuple(Violation(v.field, v.description) for v in bad.field_violations),
        "retry_after_s": retry.retry_delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None,
        "metadata": metadata,
    }
    cls = _CLASSES.get(status.code)
    if cls is None:
        return UpstreamFault(reason, status.message, code=status.code, **keywords)
    return cls(reason, status.message, **keywords)


def from_rpc_error(error: grpc.RpcError) -> LensmeshError:
    """Return the typed error behind what a stub raised, with the details of the service where it sent some."""
    code, text = _called(error, "code"), _called(error, "details") or ""
    number = code.value[0] if isinstance(code, grpc.StatusCode) else code_pb2.UNKNOWN
    for key, value in _called(error, "trailing_metadata") or ():
        if key == DETAILS_KEY:
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:
                break
            # Details of a status that a proxy replaced explain something else.
            if status.code == number:
                return from_status(status)
    if number == code_pb2.RESOURCE_EXHAUSTED and "message larger than max" in text:
        return errors.Overloaded(
            Reason.MESSAGE_TOO_LARGE,
            f"A message is larger than the transport takes ({text}). Send fewer or smaller items in one message; "
            "GetInfo tells the limit as limits.max_message_bytes.",
        )
    return from_status(status_pb2.Status(code=number, message=text))


async def abort(context: Any, error: BaseException) -> NoReturn:
    """End the call with the status of `error`. Raises gRPC's AbortError, which the caller lets pass."""
    status = to_status(error)
    # abort() replaces trailing metadata that was set before, the request id among it.
    trailing = tuple(pair for pair in context.trailing_metadata() or () if pair[0] != DETAILS_KEY)
    await context.abort(
        GRPC_CODES.get(status.code, grpc.StatusCode.UNKNOWN),
        status.message,
        (*trailing, (DETAILS_KEY, status.SerializeToString())),
    )
    raise AssertionError("abort() returned")


def _code_of(error: LensmeshError) -> int:
    if isinstance(error, UpstreamFault):
        return error.code if error.code in GRPC_CODES and error.code != code_pb2.OK else code_pb2.UNKNOWN
    return next((_CODES[cls] for cls in type(error).__mro__ if cls in _CODES), code_pb2.INTERNAL)


def _called(error: grpc.RpcError, name: str) -> Any:
    """Return what the method `name` of a gRPC error gives; None where it has none.

    gRPC's own errors have code() and details(); the bare RpcError that they derive from has neither.
    """
    method = getattr(error, name, None)
    return method() if callable(method) else None


def _error_info(reason: Reason, metadata: dict[str, str]) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo(reason=str(reason), domain=DOMAIN)
    size = 0
    for key, value in metadata.items():
        key, text = _clean(key), _clean(value)[:MAX_METADATA_VALUE_CHARS]
        size += len(key.encode()) + len(text.encode()) + 8
        if size > MAX_DETAILS_BYTES // 4:
            break
        info.metadata[key] = text
    return info


def _add_violations(status: status_pb2.Status, violations: tuple[Violation, ...]) -> None:
    if not violations:
        return
    bad = error_details_pb2.BadRequest()
    room = MAX_DETAILS_BYTES - status.ByteSize() - 64
    for violation in violations[:MAX_VIOLATIONS]:
        one = error_details_pb2.BadRequest.FieldViolation(
            field=_clean(violation.field)[:MAX_METADATA_VALUE_CHARS],
            description=_cut(_clean(violation.description), MAX_MESSAGE_BYTES),
        )
        room -= one.ByteSize() + 4
        if room < 0:
            break
        bad.field_violations.append(one)
    if bad.field_violations:
        _add(status, bad)


def _add(status: status_pb2.Status, detail: Any) -> None:
    status.details.add().Pack(detail)


def _clean(text: str) -> str:
    """Return the text as protobuf can carry it: a lone surrogate, from a file name say, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _cut(text: str, limit_bytes: int) -> str:
    raw = text.encode("utf-8")
    return text if len(raw) <= limit_bytes else raw[: limit_bytes - 3].decode("utf-8", "ignore") + "..."
