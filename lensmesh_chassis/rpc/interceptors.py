"""The server interceptors, and the order in which they stand around a call."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

import grpc

from lensmesh_chassis.contract import REQUEST_ID_KEY, TRACE_ID_KEY
from lensmesh_chassis.errors import DEFAULT_RETRY_AFTER_S, Overloaded, Unavailable
from lensmesh_chassis.process.health import HealthState
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.handlers import Begin, End, Interceptor, RpcMethod
from lensmesh_chassis.rpc.request_id import accepted_request_id, request_id
from lensmesh_chassis.rpc.request_id import method as current_method
from lensmesh_chassis.telemetry import spans
from lensmesh_chassis.telemetry.metrics import CallMetrics
from lensmesh_chassis.tls.callers import Callers

_log = logging.getLogger(__name__)


def in_order(
    telemetry: Sequence[Interceptor], metrics: CallMetrics, gate: "ReadinessInterceptor", callers: Callers | None = None
) -> list[Interceptor]:
    """Return the server interceptors, outermost first. What is inside of them stands in served.py."""
    known = (callers,) if callers is not None else ()
    return [*telemetry, RequestIds(), AccessLog(), metrics, *known, gate]


class RequestIds:
    """Interceptor that takes the call's request id or makes one.

    It returns it in the trailing metadata, with the trace's id where a trace is kept.
    """

    def around(self, method: RpcMethod) -> Begin:
        path = method.path

        def begin(context: Any) -> None:
            sent = next((value for key, value in context.invocation_metadata() if key == REQUEST_ID_KEY), None)
            current = accepted_request_id(sent)
            # Each call has a task, and so a context, of its own: there is nothing to reset.
            request_id.set(current)
            current_method.set(path)
            if trace_id := spans.trace_id():
                context.set_trailing_metadata(((REQUEST_ID_KEY, current), (TRACE_ID_KEY, trace_id)))
            else:
                context.set_trailing_metadata(((REQUEST_ID_KEY, current),))

        return begin


class AccessLog:
    """Interceptor that logs one line for each call: debug where it went well, info where it did not."""

    def around(self, method: RpcMethod) -> Begin:
        def begin(context: Any) -> End | None:
            if not _log.isEnabledFor(logging.INFO):
                return None
            start = time.perf_counter()
            # Asked now: once the call is over there is no peer any more, and gRPC crashes.
            peer = context.peer()

            def end(_error: BaseException | None, code: grpc.StatusCode) -> None:
                fine = code is grpc.StatusCode.OK or method.infrastructure
                level = logging.DEBUG if fine else logging.INFO
                if not _log.isEnabledFor(level):
                    return
                _log.log(
                    level,
                    "call",
                    extra={
                        "method": method.path,
                        "code": code.name,
                        "details": context.details() or "",
                        "ms": round((time.perf_counter() - start) * 1000, 3),
                        "peer": peer,
                    },
                )

            return end

        return begin


class InFlight:
    """Count of the calls that run now, without health and reflection, and its limit: 0 for none."""

    def __init__(self, limit: int = 0) -> None:
        self.count = 0
        self.limit = limit
        self.refused = 0
        self.watchers = 0
        """Calls of health and reflection."""
        self._idle = asyncio.Event()
        self._idle.set()

    def enter(self) -> None:
        self.count += 1
        self._idle.clear()

    def leave(self) -> None:
        self.count -= 1
        if not self.count:
            self._idle.set()

    def check(self, running: int, limit: int) -> None:
        """Refuse a call where `running` calls are beyond `limit`. Raises Overloaded."""
        if running < limit:
            return
        self.refused += 1
        raise Overloaded(
            Reason.OVERLOADED,
            f"{running} calls run here and the limit is {limit} (max_calls): send the call again later, or use a "
            "stream for many items",
            metadata={"limit": limit},
        )

    async def wait_idle(self) -> None:
        await self._idle.wait()


# Answered although the limit of calls is reached, up to so many more: they tell why.
_INFO = frozenset({"GetInfo", "GetStatus"})
_FOR_INFO = 64
_LEAST_WATCHERS = 256


class ReadinessInterceptor:
    """Interceptor that admits calls once the service has started, until it drains; it counts them and refuses too many.

    `server.stop(grace)` of gRPC closes connections to calls that arrive meanwhile (grpc/grpc#37239). So the chassis
    counts calls itself. Those that tell of the service have some room above the limit.
    """

    def __init__(
        self, health: HealthState, started: asyncio.Event, draining: asyncio.Event, in_flight: InFlight
    ) -> None:
        self._health, self._started, self._draining, self._in_flight = health, started, draining, in_flight

    def around(self, method: RpcMethod) -> Begin:
        in_flight = self._in_flight
        if method.infrastructure:
            return self._watch

        limit = in_flight.limit + (_FOR_INFO if method.name in _INFO else 0) if in_flight.limit else 0

        def begin(_context: Any) -> End:
            if limit:
                in_flight.check(in_flight.count, limit)
            if self._draining.is_set():
                raise _later(Reason.DRAINING, "the service is shutting down: send the call to another replica")
            if not self._started.is_set():
                raise _later(Reason.NOT_READY, f"the service is not ready yet ({self._health.reason()}): try again")
            in_flight.enter()
            return end

        def end(_error: BaseException | None, _code: grpc.StatusCode) -> None:
            in_flight.leave()

        return begin

    def _watch(self, _context: Any) -> End:
        in_flight = self._in_flight
        if in_flight.limit:
            in_flight.check(in_flight.watchers, max(in_flight.limit, _LEAST_WATCHERS))
        in_flight.watchers += 1

        def end(_error: BaseException | None, _code: grpc.StatusCode) -> None:
            in_flight.watchers -= 1

        return end


def _later(reason: Reason, message: str) -> Unavailable:
    return Unavailable(reason, message, retry_after_s=DEFAULT_RETRY_AFTER_S)
