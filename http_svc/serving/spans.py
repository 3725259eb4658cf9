"""Spans of requests, by OpenTelemetry's conventions for HTTP servers."""

from collections.abc import Callable
from typing import Any

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from starlette.types import Scope

from lensmesh_chassis.telemetry import spans

# The attributes of semantic conventions 1.30 for HTTP; the package names them, and only tracing installs it.
_METHOD, _ROUTE, _STATUS = "http.request.method", "http.route", "http.response.status_code"
_PATH, _SCHEME = "url.path", "url.scheme"


BULK_PATHS = frozenset({"/v1/ingest"})
"""Addresses that bulk work comes by: a smaller share of its traces is kept, as of the streams of gRPC."""


class RequestSpan:
    """The span of one request."""

    def __init__(self, span: Span, method: str) -> None:
        self._span, self._method = span, method
        self.trace_id = spans.trace_id()

    def end(self, route: str, status: int) -> None:
        """End the span. Faults of the server are errors, and those of the client are not, as the conventions say."""
        if self._span.is_recording():
            self._span.update_name(f"{self._method} {route}")
            self._span.set_attributes({_ROUTE: route, _STATUS: status})
            if status >= 500:
                self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class RequestSpans:
    """What begins the spans; nothing without a provider."""

    def __init__(self, provider: Any | None) -> None:
        self._tracer = provider.get_tracer("lensmesh") if provider is not None else None

    def begin(self, scope: Scope, method: str, header: Callable[[bytes], str]) -> RequestSpan | None:
        """Begin a request's span, as a part of the trace that its client names, and make it the current one."""
        if self._tracer is None:
            return None
        carrier = {name: value for name in ("traceparent", "tracestate") if (value := header(name.encode()))}
        parent = propagate.extract(carrier)
        attributes = {_METHOD: method, _PATH: scope["path"], _SCHEME: scope["scheme"]}
        if scope["path"] in BULK_PATHS:
            attributes[spans.LANE] = "bulk"
        span = self._tracer.start_span(method, parent, SpanKind.SERVER, attributes)
        # Each request has a task, and so a context, of its own: there is nothing to detach.
        context.attach(trace.set_span_in_context(span, parent))
        spans.current_tracer.set(self._tracer)
        return RequestSpan(span, method)
