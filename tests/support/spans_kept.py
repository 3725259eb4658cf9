"""A tracer provider whose spans can be read."""

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import SpanKind

from tests.support.waiting import until


class Traced:
    """A provider whose spans can be read."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    async def spans(self, count: int) -> list[ReadableSpan]:
        """As soon as there are so many."""
        await until(lambda: len(self.exporter.get_finished_spans()) >= count)
        return list(self.exporter.get_finished_spans())


def of_kind(spans: list[ReadableSpan], kind: SpanKind) -> ReadableSpan:
    """The first of a kind."""
    return next(span for span in spans if span.kind is kind)


def named(spans: list[ReadableSpan], name: str) -> list[ReadableSpan]:
    """All of a name, in the order of their ends."""
    return [span for span in spans if span.name == name]


def parent_of(span: ReadableSpan) -> int:
    """The parent's span id; 0 for the first of a trace."""
    return span.parent.span_id if span.parent else 0


def id_of(span: ReadableSpan) -> int:
    """Its span id."""
    assert span.context is not None
    own: int = span.context.span_id
    return own


def links_of(span: ReadableSpan) -> set[int]:
    """Span ids of what it is linked to."""
    return {link.context.span_id for link in span.links}
