"""A span for each statement that a call sends to PostgreSQL, by OpenTelemetry's instrumentation of asyncpg.

Statements are shown as they are prepared: values stand in them as $1, $2. The values are shown only where
LENSMESH_TRACES_CONTENT says so. The same goes for an error's own words, which quote values.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind

from lensmesh_chassis.telemetry import spans


class StatementSpans:
    """Switch of the instrumentation: on while started, for every connection of the process.

    Without a provider it does nothing.
    """

    def __init__(self, provider: Any | None) -> None:
        self._provider = provider
        self._instrumentor: Any = None

    def start(self) -> None:
        """Make spans from now on."""
        if self._provider is None:
            return
        from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor

        make: Any = AsyncPGInstrumentor
        instrumentor = make(capture_parameters=spans.shows_content())
        if not instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.instrument(tracer_provider=_Provider(self._provider))
            self._instrumentor = instrumentor

    def stop(self) -> None:
        """Make no more spans."""
        if self._instrumentor is not None:
            self._instrumentor.uninstrument()
            self._instrumentor = None


class _Provider:
    """The part of a tracer provider that the instrumentation uses."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider

    def get_tracer(self, *arguments: Any, **keywords: Any) -> "_Tracer":
        return _Tracer(self._provider.get_tracer(*arguments, **keywords))


class _Tracer:
    """Tracer whose spans keep an error once and without its words."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def start_as_current_span(
        self, name: str, kind: SpanKind = SpanKind.INTERNAL, attributes: Any = None
    ) -> Iterator[Span]:
        if any(str(value).endswith("; COMMIT") for value in (attributes or {}).values()):
            # It begins with the check that its call's deadline has not passed: see `Database`.
            name = "COMMIT"
        with self._tracer.start_as_current_span(
            name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                spans.fail(span, error)
                raise
