"""Exemplars: they lead from a bucket of a histogram to one call in it, by the trace that was current and sampled."""

from opentelemetry import trace
from opentelemetry.trace import Span


def exemplar(span: Span | None = None) -> dict[str, str] | None:
    """Return labels that name the span, the current one where none is given.

    None outside of a span, and for one that no collector will ever see.
    """
    context = (span or trace.get_current_span()).get_span_context()
    if not (context.is_valid and context.trace_flags.sampled):
        return None
    return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}
