"""With which code a call ended, told from inside an interceptor."""

import asyncio
from typing import Any

import grpc

from lensmesh_chassis.status import GRPC_CODES


def outcome(error: BaseException | None, context: Any) -> grpc.StatusCode:
    """The code the caller sees, given what came out of the handler. A stream that was closed early was cancelled."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        remaining = context.time_remaining()
        late = remaining is not None and remaining <= 0
        return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
    code = context.code()
    if isinstance(code, int):
        code = GRPC_CODES.get(code, grpc.StatusCode.UNKNOWN)
    if error is not None and code in (None, grpc.StatusCode.OK):
        return grpc.StatusCode.UNKNOWN
    return code or grpc.StatusCode.OK
