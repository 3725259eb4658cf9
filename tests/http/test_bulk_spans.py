"""Bulk work by HTTP is sampled as bulk work by gRPC is."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from http_svc.serving.spans import RequestSpans
from lensmesh_chassis.telemetry.sampling import MeshSampler


@pytest.mark.parametrize(
    ("path", "parent", "kept"),
    [
        ("/v1/ingest", "", False),
        ("/v1/search", "", True),
        ("/v1/ingest", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01", True),
    ],
)
async def test_a_trace_that_begins_with_an_ingest_is_sampled_as_bulk(path: str, parent: str, kept: bool) -> None:
    provider, exporter = TracerProvider(sampler=MeshSampler(ALWAYS_ON, ratio=0)), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    headers = {b"traceparent": parent}
    span = RequestSpans(provider).begin({"path": path, "scheme": "http"}, "POST", lambda name: headers.get(name, ""))
    assert span is not None
    span.end(path, 200)
    assert bool(exporter.get_finished_spans()) == kept
