"""Metrics of the model services' cache. Labels are models and outcomes; all are fixed when a process starts."""

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from lensmesh_chassis.telemetry.loop_metrics import Counter, Number
from lensmesh_inference.cache.tiered import TieredCache

_OUTCOMES: Final = ("miss", "hit", "coalesced")
_OPERATIONS: Final = ("read", "write")


class CacheMetrics(Collector):
    """Collector for the cache of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "lensmesh_cache_requests_total",
            "Items answered, by what the cache had to say: miss (computed), hit (computed earlier), coalesced "
            "(computed at that moment for somebody else).",
            ("model", "outcome"),
            registry=registry,
        )
        self._errors = Counter(
            "lensmesh_cache_errors_total",
            "Reads and writes, each of many items, at which the shared cache failed.",
            ("operation",),
            registry=registry,
        )
        self._failures = {operation: self._errors.labels(operation) for operation in _OPERATIONS}
        self._answers: dict[tuple[str, str], Number] = {}
        self._cache: TieredCache | None = None
        registry.register(self)

    def watch(self, cache: TieredCache) -> None:
        """Show this cache from now on."""
        self._cache = cache

    def show(self, model: str) -> None:
        """Show this model's outcomes from now on, also those that have not come up yet."""
        for outcome in _OUTCOMES:
            self._answers[model, outcome] = self._requests.labels(model, outcome)

    def answered(self, model: str, outcome: str) -> None:
        """Count one answered item of a model that is shown.

        `outcome`: unasked is not counted, since no cache was asked.
        """
        if (counter := self._answers.get((model, outcome))) is not None:
            counter.inc()

    def shared_failed(self, operation: str) -> None:
        """Count one failed `read` or `write` of the shared cache."""
        self._failures[operation].inc()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, read now."""
        cache = self._cache
        if cache is None:
            return
        yield GaugeMetricFamily("lensmesh_cache_bytes", "Memory that cached results take.", cache.held_bytes)
        yield GaugeMetricFamily("lensmesh_cache_items", "Results in memory.", cache.items)
        yield CounterMetricFamily(
            "lensmesh_cache_evictions_total", "Results dropped to make room for others.", cache.evictions
        )
