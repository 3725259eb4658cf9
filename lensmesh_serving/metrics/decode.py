"""Metrics of the model services' decoding in processes with limits."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from lensmesh_inference.images.counts import DecodeCounts


class DecodeMetrics(Collector):
    """Collector that reads the counts of one process at each scrape."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._decoding: DecodeCounts | None = None
        registry.register(self)

    def watch(self, decoding: DecodeCounts) -> None:
        """Show these counts from now on."""
        self._decoding = decoding

    def collect(self) -> Iterator[Metric]:
        refused = CounterMetricFamily(
            "lensmesh_decode_refused",
            "Images refused by the processes that decode within limits: time, memory, crashed (the process ended), "
            "known (refused for one of these before, and not tried again).",
            labels=("cause",),
        )
        dropped = CounterMetricFamily(
            "lensmesh_decode_dropped_lines",
            "Lines that decoding libraries wrote to standard error, which are dropped.",
            labels=(),
        )
        if self._decoding is not None:
            for cause, images in self._decoding.refused.items():
                refused.add_metric((cause,), images)
            dropped.add_metric((), self._decoding.dropped_lines)
        yield from (refused, dropped)
