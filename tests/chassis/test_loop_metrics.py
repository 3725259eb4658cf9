"""Metrics of the event loop show what prometheus_client's own would show."""

import re
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics

from lensmesh_chassis.telemetry import loop_metrics

BUCKETS = (0.1, 1, 2.5, 2.0**26)


def shown(library: Any) -> tuple[str, str]:
    """Both formats, without the time of exemplars."""
    registry = CollectorRegistry()
    calls = library.Counter("calls_total", "Calls.", ("method", "code"), registry=registry)
    running = library.Gauge("running", "Calls that run.", ("method",), registry=registry)
    seconds = library.Histogram("seconds", "Time.", ("method",), buckets=BUCKETS, registry=registry)
    for method in ("Search", "GetInfo"):
        calls.labels(method, "OK").inc()
        calls.labels(method, "OK").inc(2)
        calls.labels(method, "ABORTED")
        running.labels(method).inc(3)
        running.labels(method).dec()
        for amount in (0.1, 0.05, 2.5, 2.0**27, 0.3):
            seconds.labels(method).observe(amount)
        seconds.labels(method).observe(0.2, {"trace_id": "a" * 32})
        seconds.labels(method).observe(2.0**28, {"trace_id": "b" * 32})
    seconds.labels("never")
    latest: Any = prometheus_client.generate_latest
    open_metrics: Any = generate_open_metrics
    text: str = latest(registry).decode()
    return text, re.sub(r" \d{10}\.\d+$", "", open_metrics(registry).decode(), flags=re.MULTILINE)


def test_they_are_shown_as_the_library_shows_its_own() -> None:
    without_created: Any = prometheus_client.disable_created_metrics
    without_created()
    assert shown(loop_metrics) == shown(prometheus_client)


def test_labels_are_counted() -> None:
    calls = loop_metrics.Counter("calls_total", "Calls.", ("method", "code"), registry=CollectorRegistry())
    with pytest.raises(ValueError, match="method, code"):
        calls.labels("Search")
