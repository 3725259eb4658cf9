"""The trace of an ingest stream: when it is whole, and its tree."""

from __future__ import annotations

from tests.tracing.traces import Span, Trace

# How a call ends that its caller gave up.
GIVEN_UP = ("CANCELLED", "DEADLINE_EXCEEDED")


INGEST_STREAM = "/lensmesh.router.v1.RouterService/IngestStream"


def is_whole(trace: Trace) -> bool:
    """Whether every process has sent its last span: the owner of each tree ends after all that is in it.

    A call that was given up may never have got to its server. Where it did, nothing may be missing between the spans.
    """
    ends = [span for span in trace if not span.parent]
    calls = [call for call in trace.all(kind="client") if call.code not in GIVEN_UP]
    named = [span.parent for span in trace if span.parent] + [span_id for span in trace for _, span_id in span.links]
    return (
        bool(ends)
        and all(trace.below(call, kind="server") for call in calls)
        and all(span_id in trace.spans for span_id in named)
    )


def stream_of(trace: Trace) -> Span:
    [call] = trace.all(method="IngestStream", kind="client")
    return trace.served(call)
