"""Spans of calls, served and made. They begin as OpenTelemetry's interceptors begin them, and end as the call ended.

The stock interceptors leave the span of a cancelled call open or OK, know no deadline on the server, and record an
aborted stream's exception twice. What they do well stays theirs: attributes by the semantic conventions, the context in
and out of metadata, and the switch that suppresses instrumentation.
"""

import functools
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import grpc
from opentelemetry import propagate
from opentelemetry.semconv._incubating.attributes.rpc_attributes import RPC_GRPC_STATUS_CODE
from opentelemetry.trace import Span, Status, StatusCode

from lensmesh_chassis.rpc.client_calls import BeginCall, CallEnd, OutgoingCall
from lensmesh_chassis.rpc.handlers import Begin, End, RpcMethod
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


class ServerSpans:
    """Interceptor that makes one span for each call served. Outermost, so that it sees the caller's code.

    Health and reflection get none. Nor does a GetInfo that belongs to no trace: routers call it on every replica, for
    ever.
    """

    def __init__(self, provider: Any) -> None:
        from opentelemetry.instrumentation.grpc import aio_server_interceptor

        make: Any = aio_server_interceptor
        self._stock = make(tracer_provider=provider)
        self._tracer = provider.get_tracer("lensmesh")

    def around(self, method: RpcMethod) -> Begin | None:
        if method.infrastructure:
            return None
        named, of_every_call = SimpleNamespace(method=method.path), method.name != "GetInfo"

        def begin(context: Any) -> End | None:
            metadata = context.invocation_metadata()
            if not of_every_call and all(key != "traceparent" for key, _ in metadata):
                return None
            # Each call has a task, and so a context, of its own: there is nothing to reset.
            spans.current_tracer.set(self._tracer)
            remote = self._stock._set_remote_context(context)
            remote.__enter__()
            making = self._stock._start_span(named, context)
            span = making.__enter__()
            if attempts := next((value for key, value in metadata if key == _PREVIOUS_ATTEMPTS), None):
                span.set_attribute(spans.ATTEMPT, int(attempts) + 1)

            def end(error: BaseException | None, code: grpc.StatusCode) -> None:
                _end_server_span(span, error, code, context)
                # The span ends here, and learns of no exception: it has been told.
                making.__exit__(None, None, None)
                remote.__exit__(None, None, None)

            return end

        return begin


def _end_server_span(span: Span, error: BaseException | None, code: grpc.StatusCode, context: Any) -> None:
    if not span.is_recording():
        return
    _set_code(span, code)
    if code in _SERVER_FAULTS:
        span.set_status(Status(StatusCode.ERROR, context.details() or code.name))
    if isinstance(error, grpc.aio.AbortError):
        # A handler that aborts by itself, and maybe why it does.
        error = error.__context__
    if isinstance(error, Exception) and not isinstance(error, grpc.RpcError):
        spans.record(span, error)


class ClientSpans:
    """Interceptor that makes one span for each call made, with `target` as its server's address."""

    def __init__(self, provider: Any, target: str = "") -> None:
        from opentelemetry.instrumentation.grpc import aio_client_interceptors

        make: Any = aio_client_interceptors
        self._stock = make(tracer_provider=provider)[0]
        self._attributes: Mapping[str, str] = {"server.address": target} if target else {}

    def around(self, method: RpcMethod) -> BeginCall | None:
        if method.infrastructure:
            return None
        named = SimpleNamespace(method=method.path)

        def begin(call: OutgoingCall) -> Callable[[CallEnd], None] | None:
            if self._stock.tracing_skipped(named):
                return None
            with self._stock._start_interceptor_span(method.path) as span:
                carrier: dict[str, str] = {}
                propagate.inject(carrier)
                call.metadata.extend(carrier.items())
            if not span.is_recording():
                return None
            span.set_attributes(self._attributes)
            spans.link_passengers(span)
            call.span = span
            return functools.partial(_end_client_span, span)

        return begin


def _end_client_span(span: Span, end: CallEnd) -> None:
    if end.error is not None:
        # It could not be made, and has no gRPC code.
        spans.fail(span, end.error)
    elif end.code is not None:
        _set_code(span, end.code)
        if end.code is not grpc.StatusCode.OK:
            description = f"{end.code.name}: {end.details}" if end.details else end.code.name
            span.set_status(Status(StatusCode.ERROR, description))
    span.end()


def _set_code(span: Span, code: grpc.StatusCode) -> None:
    span.set_attribute(RPC_GRPC_STATUS_CODE, code.value[0])
    span.set_attribute(STATUS_NAME, code.name)
