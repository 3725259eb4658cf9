"""The gRPC code with which a call ends, as an interceptor finds it."""

import asyncio
from typing import Any

import grpc

from lensmesh_chassis.rpc.status import GRPC_CODES

# At its deadline a caller resets the call, which gets here before the deadline does: that travels as a time-out,
# rounded up.
_DEADLINE_SLACK_S = 0.25


def outcome(error: BaseException | None, context: Any) -> grpc.StatusCode:
    """Return the code that the caller sees, given what the handler raised.

    A stream that was closed early was cancelled.
    """
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        remaining = context.time_remaining()
        late = remaining is not None and remaining <= _DEADLINE_SLACK_S
        return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
    code = context.code()
    if isinstance(code, int):
        code = GRPC_CODES.get(code, grpc.StatusCode.UNKNOWN)
    if error is not None and code in (None, grpc.StatusCode.OK):
        return grpc.StatusCode.UNKNOWN
    return code or grpc.StatusCode.OK
