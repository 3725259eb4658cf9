"""Metrics of the model services' decoding in processes with limits."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class Decoding(Protocol):
    """Counts as they are now. A scrape's thread reads them, so they are plain numbers."""

    @property
    def refused(self) -> Mapping[str, int]:
        """Images refused, by cause."""

    @property
    def dropped_lines(self) -> int:
        """Lines of decoding libraries that were dropped."""


class DecodeMetrics(Collector):
    """Collector that reads the counts of one process at each scrape."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._decoding: Decoding | None = None
        registry.register(self)

    def watch(self, decoding: Decoding) -> None:
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
