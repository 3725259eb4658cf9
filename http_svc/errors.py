"""Errors as HTTP tells them: a status, and JSON that names the field, the limit and the fix."""

import json
import math
from typing import Any

from google.rpc import code_pb2, error_details_pb2, status_pb2
from starlette.exceptions import HTTPException

from lensmesh_chassis.errors import InvalidInput, NotFound
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status

# As google/rpc/code.proto maps them.
HTTP_STATUS: dict[int, int] = {
    code_pb2.OK: 200,
    code_pb2.CANCELLED: 499,
    code_pb2.UNKNOWN: 500,
    code_pb2.INVALID_ARGUMENT: 400,
    code_pb2.DEADLINE_EXCEEDED: 504,
    code_pb2.NOT_FOUND: 404,
    code_pb2.ALREADY_EXISTS: 409,
    code_pb2.PERMISSION_DENIED: 403,
    code_pb2.UNAUTHENTICATED: 401,
    code_pb2.RESOURCE_EXHAUSTED: 429,
    code_pb2.FAILED_PRECONDITION: 400,
    code_pb2.ABORTED: 409,
    code_pb2.OUT_OF_RANGE: 400,
    code_pb2.UNIMPLEMENTED: 501,
    code_pb2.INTERNAL: 500,
    code_pb2.UNAVAILABLE: 503,
    code_pb2.DATA_LOSS: 500,
}
_TOO_LARGE = frozenset({Reason.MESSAGE_TOO_LARGE, Reason.IMAGE_TOO_LARGE})


class ErrorView:
    """An error, taken apart: `code` as gRPC names it, `reason`, `message`, fields and the wait before a retry."""

    def __init__(self, status: status_pb2.Status, http_status: int = 0) -> None:
        self.status = status
        self._http_status = http_status
        self.code = code_pb2.Code.Name(status.code) if status.code in code_pb2.Code.values() else "UNKNOWN"
        self.message = status.message
        self.reason = ""
        self.metadata: dict[str, str] = {}
        self.fields: list[dict[str, str]] = []
        self.retry_after_s: float | None = None
        for detail in status.details:
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                info = error_details_pb2.ErrorInfo()
                detail.Unpack(info)
                self.reason, self.metadata = info.reason, dict(info.metadata)
            elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
                bad = error_details_pb2.BadRequest()
                detail.Unpack(bad)
                self.fields = [{"field": v.field, "description": v.description} for v in bad.field_violations]
            elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                retry = error_details_pb2.RetryInfo()
                detail.Unpack(retry)
                self.retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9

    @classmethod
    def of(cls, error: BaseException, http_status: int = 0) -> "ErrorView":
        """Return the view of an error that was raised. What was not meant for callers is logged, and INTERNAL."""
        return cls(to_status(error), http_status)

    @property
    def http_status(self) -> int:
        """The status of a whole answer."""
        if self._http_status or self.reason in _TOO_LARGE:
            return self._http_status or 413
        return HTTP_STATUS.get(self.status.code, 500)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers that go with it."""
        if self.retry_after_s is None:
            return []
        return [(b"retry-after", str(math.ceil(self.retry_after_s)).encode())]

    def json(self) -> dict[str, Any]:
        """Return the error as an object of JSON."""
        shown: dict[str, Any] = {"code": self.code, "reason": self.reason, "message": self.message}
        if self.fields:
            shown["fields"] = self.fields
        if self.retry_after_s is not None:
            shown["retry_after_seconds"] = self.retry_after_s
        if self.metadata:
            shown["metadata"] = self.metadata
        return shown

    def body(self) -> bytes:
        """Return the answer of a whole request, as JSON."""
        return json.dumps({"error": self.json()}, ensure_ascii=False).encode()


def shown_status(status: status_pb2.Status) -> dict[str, Any]:
    """Return the error of one item of a batch as an object of JSON."""
    return ErrorView(status).json()


def view_of(error: BaseException) -> ErrorView:
    """Return the error as it is told. Starlette's own are about addresses and their methods."""
    if not isinstance(error, HTTPException):
        return ErrorView.of(error)
    if error.status_code == 404:
        return ErrorView.of(NotFound(Reason.UNKNOWN, "there is nothing at this address: /docs lists what there is"))
    if error.status_code == 405:
        wrong = "this address takes no such method: the header Allow names those that it takes"
        return ErrorView.of(InvalidInput(Reason.OPTION_INVALID, wrong), http_status=405)
    return ErrorView.of(InvalidInput(Reason.OPTION_INVALID, str(error.detail)), http_status=error.status_code)


def allowed_methods(error: BaseException) -> list[tuple[bytes, bytes]]:
    """Return the headers that an error of Starlette brings, such as the methods that an address takes."""
    if not isinstance(error, HTTPException) or not error.headers:
        return []
    return [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
