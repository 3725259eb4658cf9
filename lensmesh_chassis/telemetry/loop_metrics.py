"""Metrics of what every call and item counts: plain numbers, which the event loop alone changes.

prometheus_client locks each number and looks for a histogram's bucket one by one: a call that counts ten of them pays
for it as much as for its metadata. These are the same metrics, shown by the same library, for code that runs on the
event loop. A scrape reads them from its own thread.
"""

import math
import time
from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeAlias, TypeVar

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

C = TypeVar("C")
# Writes a bucket's upper end; the library gives it no types.
_written: Callable[[float], str] = floatToGoString
Buckets: TypeAlias = list[tuple[str, float] | tuple[str, float, Exemplar]]


class _Family(Collector, Generic[C]):
    """The metrics of one name, by the values of their labels."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], *, registry: CollectorRegistry) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._children: dict[tuple[str, ...], C] = {}
        registry.register(self)

    def labels(self, *values: str) -> C:
        """Return the metric with these values of the labels. It is shown from now on."""
        if len(values) != len(self._labels):
            raise ValueError(f"{self._name} has the labels {', '.join(self._labels)}")
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._make()
        return child

    @abstractmethod
    def _make(self) -> C: ...


class Number:
    """A number that goes up, and of a gauge down as well."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        """Add to the number."""
        self.value += amount

    def dec(self, amount: float = 1) -> None:
        """Take from the number, which is a gauge's."""
        self.value -= amount


class _Numbers(_Family[Number]):
    """Family of single numbers: one for each set of labels."""

    _shown_as: type[CounterMetricFamily | GaugeMetricFamily]

    def _make(self) -> Number:
        return Number()

    def collect(self) -> Iterator[Metric]:
        """Yield the numbers as they are."""
        family = self._shown_as(self._name, self._documentation, labels=self._labels)
        for values, child in tuple(self._children.items()):
            family.add_metric(values, child.value)
        yield family


class Counter(_Numbers):
    """A counter for each set of labels."""

    _shown_as = CounterMetricFamily


class Gauge(_Numbers):
    """A gauge for each set of labels."""

    _shown_as = GaugeMetricFamily


class Distribution:
    """Counts of values by bucket. `bounds` are the buckets' upper ends, without infinity."""

    __slots__ = ("_bounds", "_counts", "_exemplars", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._exemplars: dict[int, Exemplar] = {}
        self._sum = 0.0

    def observe(self, amount: float, exemplar: Mapping[str, str] | None = None) -> None:
        """Number one value. `exemplar` are labels that lead to it, kept until the next one of its bucket."""
        bucket = bisect_left(self._bounds, amount)
        self._counts[bucket] += 1
        self._sum += amount
        if exemplar:
            self._exemplars[bucket] = Exemplar(dict(exemplar), amount, time.time())

    def shown(self) -> tuple[Buckets, float]:
        """Return the buckets' upper ends with how many values lie below, and the sum of all values."""
        below, buckets = 0, Buckets()
        for place, (bound, count) in enumerate(zip((*self._bounds, math.inf), tuple(self._counts), strict=True)):
            below += count
            end, at = _written(bound), self._exemplars.get(place)
            buckets.append((end, below, at) if at else (end, below))
        return buckets, self._sum


class Histogram(_Family[Distribution]):
    """A histogram for each set of labels."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._bounds = tuple(float(bound) for bound in buckets)
        super().__init__(name, documentation, labels, registry=registry)

    def _make(self) -> Distribution:
        return Distribution(self._bounds)

    def collect(self) -> Iterator[Metric]:
        """Yield the buckets as they are."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, child in tuple(self._children.items()):
            buckets, total = child.shown()
            family.add_metric(values, buckets, total)
        yield family
