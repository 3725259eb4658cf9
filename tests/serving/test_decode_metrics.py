"""What is shown of decoding within limits: each cause from the start, counts as they are when asked for."""

from prometheus_client import CollectorRegistry

from lensmesh_inference.images.counts import CAUSES, DecodeCounts
from lensmesh_serving.metrics.decode import DecodeMetrics


def test_counts_are_read_when_they_are_asked_for() -> None:
    registry, counts = CollectorRegistry(), DecodeCounts()
    metrics = DecodeMetrics(registry)
    assert registry.get_sample_value("lensmesh_decode_refused_total", {"cause": "time"}) is None
    metrics.watch(counts)
    counts.refuse("crashed")
    counts.drop(6000)
    shown = {cause: registry.get_sample_value("lensmesh_decode_refused_total", {"cause": cause}) for cause in CAUSES}
    assert shown == {"time": 0, "memory": 0, "crashed": 1, "known": 0}
    assert registry.get_sample_value("lensmesh_decode_dropped_lines_total") == 6000
