"""The server interceptors, and the order in which they stand around a call."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from lensmesh_chassis.contract import REQUEST_ID_KEY, TRACE_ID_KEY
from lensmesh_chassis.errors import DEFAULT_RETRY_AFTER_S, LensmeshError, Overloaded, Unavailable
from lensmesh_chassis.limits import check_size
from lensmesh_chassis.messages.budget import MessageBudget
from lensmesh_chassis.messages.flow import MessagesIn, MessagesOut
from lensmesh_chassis.messages.parsing import INLINE_BYTES, parse_message
from lensmesh_chassis.process.health import HealthState
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.call_code import outcome
from lensmesh_chassis.rpc.disconnect import DisconnectDetector
from lensmesh_chassis.rpc.handlers import Interceptor, Rpc, rebuilt, streaming, unary
from lensmesh_chassis.rpc.request_id import (
    accepted_request_id,
    method,
    request_bytes,
    request_id,
)
from lensmesh_chassis.rpc.status import abort
from lensmesh_chassis.telemetry import spans
from lensmesh_chassis.telemetry.metrics import CallMetrics
from lensmesh_chassis.tls.callers import Callers

_log = logging.getLogger(__name__)


class RequestIds(Interceptor):
    """Interceptor that takes the call's request id or makes one.

    It returns it in the trailing metadata, with the trace's id where a trace is kept.
    """

    @asynccontextmanager
    async def around(self, rpc: Rpc, context: Any) -> AsyncIterator[None]:
        sent = next((value for key, value in rpc.metadata or () if key == REQUEST_ID_KEY), None)
        # Each call has a task, and so a context, of its own: there is nothing to reset.
        request_id.set(accepted_request_id(sent))
        method.set(rpc.method)
        trailing = [(REQUEST_ID_KEY, request_id.get())]
        if trace_id := spans.trace_id():
            trailing.append((TRACE_ID_KEY, trace_id))
        context.set_trailing_metadata(tuple(trailing))
        yield


class AccessLog(Interceptor):
    """Interceptor that logs one line for each call: debug where it went well, info where it did not."""

    @asynccontextmanager
    async def around(self, rpc: Rpc, context: Any) -> AsyncIterator[None]:
        if not _log.isEnabledFor(logging.INFO):
            yield
            return
        start, error = time.perf_counter(), None
        # Asked now: once the call is over there is no peer any more, and gRPC crashes.
        peer = context.peer()
        try:
            yield
        except BaseException as caught:
            error = caught
            raise
        finally:
            code = outcome(error, context)
            fine = code is grpc.StatusCode.OK or rpc.infrastructure
            _log.log(
                logging.DEBUG if fine else logging.INFO,
                "call",
                extra={
                    "method": rpc.method,
                    "code": code.name,
                    "details": context.details() or "",
                    "ms": round((time.perf_counter() - start) * 1000, 3),
                    "peer": peer,
                },
            )


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

    def check(self, rpc: Rpc) -> None:
        """Refuse a call beyond the limit. Raises Overloaded.

        Calls that tell of the service have some room above the limit.
        """
        if not self.limit:
            return
        if rpc.infrastructure:
            running, limit = self.watchers, max(self.limit, _LEAST_WATCHERS)
        else:
            running, limit = self.count, self.limit + (_FOR_INFO if rpc.name in _INFO else 0)
        if running >= limit:
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


class ReadinessInterceptor(Interceptor):
    """Interceptor that admits calls once the service has started, until it drains; it counts them and refuses too many.

    `server.stop(grace)` of gRPC closes connections to calls that arrive meanwhile (grpc/grpc#37239). So the chassis
    counts calls itself.
    """

    def __init__(
        self, health: HealthState, started: asyncio.Event, draining: asyncio.Event, in_flight: InFlight
    ) -> None:
        self._health, self._started, self._draining, self._in_flight = health, started, draining, in_flight

    @asynccontextmanager
    async def around(self, rpc: Rpc, context: Any) -> AsyncIterator[None]:
        try:
            self._in_flight.check(rpc)
        except Overloaded as error:
            await abort(context, error)
        if rpc.infrastructure:
            self._in_flight.watchers += 1
            try:
                yield
            finally:
                self._in_flight.watchers -= 1
            return
        if self._draining.is_set():
            await abort(
                context, _later(Reason.DRAINING, "the service is shutting down: send the call to another replica")
            )
        if not self._started.is_set():
            await abort(
                context, _later(Reason.NOT_READY, f"the service is not ready yet ({self._health.reason()}): try again")
            )
        self._in_flight.enter()
        try:
            yield
        finally:
            self._in_flight.leave()


class Errors(Interceptor):
    """Interceptor that turns what a handler raises into a status. Innermost, so that all others see the final code."""

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes

    def adapt(self, rpc: Rpc, handler: Any) -> Any:
        """Parse requests inside of this interceptor.

        Of gRPC's own parsing a caller would get UNKNOWN with the exception's text.
        """
        parse = handler.request_deserializer
        # Generated code gives the class method FromString: its class parses a large message in pieces.
        cls = getattr(parse, "__self__", None)
        is_message = isinstance(cls, type) and issubclass(cls, Message)

        def deserialize(data: bytes) -> Any:
            request_bytes.set(len(data))
            if not is_message:
                return parse(data) if parse else data
            if len(data) <= min(INLINE_BYTES, self._max_message_bytes):
                with contextlib.suppress(DecodeError):
                    return parse(data)
            return _Unparsed(data)

        async def message(request: Any) -> Any:
            if not isinstance(request, _Unparsed):
                return request
            # Those who passed it on still have the request: its bytes are not kept beside the message made of them.
            data, request.data = request.data, b""
            check_size(len(data), self._max_message_bytes)
            return await parse_message(cls, data)

        async def messages(requests: Any) -> AsyncIterator[Any]:
            async for request in requests:
                yield await message(request)

        async def parsed(request: Any) -> Any:
            return messages(request) if rpc.request_streaming else await message(request)

        if rpc.response_streaming:
            run_streaming = streaming(handler)

            async def respond(request: Any, context: Any) -> AsyncIterator[Any]:
                responses: Any = run_streaming(await parsed(request), context)
                async with aclosing(responses):
                    async for response in responses:
                        yield response

            return rebuilt(handler, respond, request_deserializer=deserialize)
        run = unary(handler)

        async def answer(request: Any, context: Any) -> Any:
            return await run(await parsed(request), context)

        return rebuilt(handler, answer, request_deserializer=deserialize)

    @asynccontextmanager
    async def around(self, rpc: Rpc, context: Any) -> AsyncIterator[None]:
        try:
            yield
        except (grpc.aio.AbortError, LensmeshError) as error:
            if isinstance(error, LensmeshError):
                await abort(context, error)
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Something inside was cancelled, not the call: gRPC would never answer it.
            await abort(context, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets INTERNAL and the log gets the rest
            await abort(context, error)


@dataclass(slots=True)
class _Unparsed:
    """Stand-in for a message that is too large to be parsed on the event loop, or whose bytes are no message."""

    data: bytes


def _later(reason: Reason, message: str) -> Unavailable:
    return Unavailable(reason, message, retry_after_s=DEFAULT_RETRY_AFTER_S)


def in_order(
    telemetry: Sequence[grpc.aio.ServerInterceptor],
    metrics: CallMetrics,
    gate: ReadinessInterceptor,
    budget: MessageBudget,
    callers: Callers | None = None,
    *,
    max_message_bytes: int,
) -> list[grpc.aio.ServerInterceptor]:
    """Return the server interceptors, outermost first.

    What decides how a call ends is innermost: an interceptor inside of it would record a failure as OK.
    """
    known = (callers,) if callers is not None else ()
    around = [*telemetry, RequestIds(), AccessLog(), metrics, *known, gate]
    return [MessagesOut(budget), *around, MessagesIn(budget), Errors(max_message_bytes), DisconnectDetector()]
