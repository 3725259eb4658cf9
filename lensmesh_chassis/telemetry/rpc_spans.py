"""Spans of calls, served and made. They begin as OpenTelemetry's interceptors begin them, and end as the call ended.

The stock interceptors leave the span of a cancelled call open or OK, know no deadline on the server, and record an
aborted stream's exception twice. What they do well stays theirs: attributes by the semantic conventions, the context in
and out of metadata, and the switch that suppresses instrumentation.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
from opentelemetry.semconv._incubating.attributes.rpc_attributes import RPC_GRPC_STATUS_CODE
from opentelemetry.trace import Span, Status, StatusCode

from lensmesh_chassis.rpc.call_code import outcome
from lensmesh_chassis.rpc.client_interceptor import ClientInterceptor
from lensmesh_chassis.rpc.handlers import Interceptor, Rpc, is_infrastructure
from lensmesh_chassis.telemetry import spans

# The name of the code, as the newer conventions want it and people read it.
STATUS_NAME = "rpc.response.status_code"
# Where the caller is at fault the conventions leave a server's span unset.
_SERVER_FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
# gRPC itself tells the server how often a call was sent before.
_PREVIOUS_ATTEMPTS = "grpc-previous-rpc-attempts"


def is_traced(method: str, metadata: Any) -> bool:
    """Tell whether a call gets a span.

    Health and reflection get none. Nor does a GetInfo that belongs to no trace: routers call it on every replica, for
    ever.
    """
    if is_infrastructure(method):
        return False
    return not method.endswith("/GetInfo") or any(key == "traceparent" for key, _ in metadata or ())


class ServerSpans(Interceptor):
    """Interceptor that makes one span for each call served. Outermost, so that it sees the caller's code."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry.instrumentation.grpc import aio_server_interceptor

        make: Any = aio_server_interceptor
        self._stock = make(tracer_provider=provider)
        self._tracer = provider.get_tracer("lensmesh")

    @asynccontextmanager
    async def around(self, rpc: Rpc, context: Any) -> AsyncIterator[None]:
        if not is_traced(rpc.method, rpc.metadata):
            yield
            return
        # Each call has a task, and so a context, of its own: there is nothing to reset.
        spans.current_tracer.set(self._tracer)
        with self._stock._set_remote_context(context):
            making = self._stock._start_span(rpc, context)
            span = making.__enter__()
            if attempts := next((value for key, value in rpc.metadata or () if key == _PREVIOUS_ATTEMPTS), None):
                span.set_attribute(spans.ATTEMPT, int(attempts) + 1)
            error: BaseException | None = None
            try:
                yield
            except BaseException as caught:
                error = caught
                raise
            finally:
                _end_server_span(span, error, context)
                # The span ends here, and learns of no exception: it has been told.
                making.__exit__(None, None, None)


def _end_server_span(span: Span, error: BaseException | None, context: Any) -> None:
    if not span.is_recording():
        return
    code = outcome(error, context)
    _set_code(span, code)
    if code in _SERVER_FAULTS:
        span.set_status(Status(StatusCode.ERROR, context.details() or code.name))
    if isinstance(error, grpc.aio.AbortError):
        # What the handler raised; without one it aborted by itself.
        error = error.__context__
    if isinstance(error, Exception) and not isinstance(error, grpc.RpcError):
        spans.record(span, error)


class ClientSpans(ClientInterceptor):
    """Interceptor that makes one span for each call made, with `target` as its server's address."""

    def __init__(self, provider: Any, target: str = "") -> None:
        from opentelemetry.instrumentation.grpc import aio_client_interceptors

        make: Any = aio_client_interceptors
        self._stock = make(tracer_provider=provider)[0]
        self._attributes: Mapping[str, str] = {"server.address": target} if target else {}

    async def make_call(self, shape: str, continuation: Any, details: Any, request: Any) -> Any:
        method = details.method.decode() if isinstance(details.method, bytes) else details.method
        if is_infrastructure(method) or self._stock.tracing_skipped(details):
            return await continuation(details, request)
        with self._stock._start_interceptor_span(method) as span:
            passed_on = self._stock.propagate_trace_in_details(details)
            if not span.is_recording():
                return await continuation(passed_on, request)
            span.set_attributes(self._attributes)
            spans.link_passengers(span)
            try:
                call = await continuation(passed_on, request)
            except BaseException as error:
                _end_unmade(span, error)
                raise
        call.add_done_callback(lambda ended: _end_client_span(span, _told(ended.code()), _told(ended.details())))
        return call


def _end_unmade(span: Span, error: BaseException) -> None:
    """End the span of a call that could not be made: it has a gRPC code only where the error has one."""
    if isinstance(error, asyncio.CancelledError):
        _end_client_span(span, grpc.StatusCode.CANCELLED, "")
    elif isinstance(error, grpc.aio.AioRpcError):
        _end_client_span(span, error.code(), error.details() or "")
    else:
        spans.fail(span, error)
        span.end()


def _end_client_span(span: Span, code: grpc.StatusCode, details: str) -> None:
    _set_code(span, code)
    if code is not grpc.StatusCode.OK:
        span.set_status(Status(StatusCode.ERROR, f"{code.name}: {details}" if details else code.name))
    span.end()


def _set_code(span: Span, code: grpc.StatusCode) -> None:
    span.set_attribute(RPC_GRPC_STATUS_CODE, code.value[0])
    span.set_attribute(STATUS_NAME, code.name)


def _told(answer: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine of an ended call: it has nothing to wait for."""
    try:
        answer.send(None)
    except StopIteration as stop:
        return stop.value
    finally:
        answer.close()
    raise AssertionError("a call that is done has no code")
