"""Metrics of the model services' engines. Labels are models and lanes; both are fixed when a process starts."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from lensmesh_chassis.telemetry.loop_metrics import Counter, Histogram
from lensmesh_inference.batching.observer import Exemplar
from lensmesh_inference.images.counts import DecodeCounts
from lensmesh_serving.metrics.decode import DecodeMetrics

_MODEL = ("model",)
_LANE = ("model", "lane")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class BatcherState(Protocol):
    """A model's queue and devices as they are now. A scrape's thread reads them, so they are plain numbers."""

    @property
    def name(self) -> str: ...

    def lane_depths(self) -> Iterable[tuple[str, int, int, int]]:
        """Return for each lane: name, items admitted and not answered, of these the ones not on a device yet, bytes."""

    def limits(self) -> tuple[int, int]:
        """Return the items and the bytes that each lane may hold."""

    @property
    def expected_wait_s(self) -> float: ...

    @property
    def running_s(self) -> float: ...

    @property
    def devices(self) -> int:
        """Devices that are left."""

    @property
    def batch_limit(self) -> int:
        """Items that the smallest device takes in one batch now."""


class CanaryState(Protocol):
    """A model's canary as it is now."""

    @property
    def age_s(self) -> float | None: ...

    @property
    def passes(self) -> bool: ...


class EngineObserver:
    """Counter of one model's events. Every metric is looked up once, when the model is loaded."""

    def __init__(self, metrics: "EngineMetrics", model: str, lanes: Sequence[str]) -> None:
        self._batch_items = metrics.batch_items.labels(model)
        self._forward = metrics.forward_seconds.labels(model)
        self._prepare = metrics.prepare_seconds.labels(model)
        self._failed_batches = metrics.failed_batches.labels(model)
        self._poison = metrics.poison_items.labels(model)
        self._queue = [metrics.queue_seconds.labels(model, lane) for lane in lanes]
        self._refused = [metrics.refused.labels(model, lane) for lane in lanes]
        self._out_of_memory = metrics.out_of_memory.labels(model)
        self._late = [metrics.late_items.labels(model, lane) for lane in lanes]

    def prepared(self, seconds: float, exemplar: Exemplar | None = None) -> None:
        """Record that one item was decoded, or tokenized, in `seconds`."""
        self._prepare.observe(seconds, exemplar)

    def computed(self, items: int, seconds: float, exemplar: Exemplar | None = None) -> None:
        """Record that a batch of `items` went through the model in `seconds`."""
        self._batch_items.observe(items)
        self._forward.observe(seconds, exemplar)

    def waited(self, lane: int, seconds: float, exemplar: Exemplar | None = None) -> None:
        """Record that one item was answered that had waited `seconds` for the device."""
        self._queue[lane].observe(seconds, exemplar)

    def batch_failed(self) -> None:
        """Count a batch whose computation raised."""
        self._failed_batches.inc()

    def poisoned(self) -> None:
        """Count an item that made the model fail when it was computed alone."""
        self._poison.inc()

    def refused(self, lane: int) -> None:
        """Count a call that found the lane full, or the predicted wait too long."""
        self._refused[lane].inc()

    def late(self, lane: int, items: int) -> None:
        """Count items that were dropped, because their deadline passed in the queue or could not be met."""
        self._late[lane].inc(items)

    def out_of_memory(self) -> None:
        """Count a batch that did not fit into its device's memory."""
        self._out_of_memory.inc()


class EngineMetrics(Collector):
    """Collector for the engines of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        r = registry
        self.batch_items = Histogram(
            "lensmesh_engine_batch_items", "Items in one batch.", _MODEL, buckets=_ITEMS, registry=r
        )
        self.forward_seconds = Histogram(
            "lensmesh_engine_forward_seconds",
            "Time of one batch in the model.",
            _MODEL,
            buckets=_SECONDS,
            registry=r,
        )
        self.prepare_seconds = Histogram(
            "lensmesh_engine_prepare_seconds",
            "Time to decode and transform one image, or tokenize one text.",
            _MODEL,
            buckets=_SECONDS,
            registry=r,
        )
        self.queue_seconds = Histogram(
            "lensmesh_engine_queue_seconds",
            "Time that one item, ready for the device, waited for it.",
            _LANE,
            buckets=_SECONDS,
            registry=r,
        )
        self.failed_batches = Counter(
            "lensmesh_engine_failed_batches_total",
            "Batches that raised; they are halved and tried again.",
            _MODEL,
            registry=r,
        )
        self.poison_items = Counter(
            "lensmesh_engine_poison_items_total", "Items on which the model failed even alone.", _MODEL, registry=r
        )
        self.refused = Counter(
            "lensmesh_engine_refused_total",
            "Calls refused because the lane was full or the predicted wait too long.",
            _LANE,
            registry=r,
        )
        self.late_items = Counter(
            "lensmesh_engine_late_items_total",
            "Items dropped because their deadline passed in the queue or could not be met.",
            _LANE,
            registry=r,
        )
        self.out_of_memory = Counter(
            "lensmesh_engine_out_of_memory_total",
            "Batches that did not fit into their device's memory; they are halved and tried again.",
            _MODEL,
            registry=r,
        )
        self.decoding = DecodeMetrics(r)
        self._batchers: list[BatcherState] = []
        self._canaries: dict[str, CanaryState] = {}
        self._parities: dict[str, float] = {}
        r.register(self)

    def observe(self, model: str, lanes: Sequence[str]) -> EngineObserver:
        """Return the observer of one model; `lanes` are named in the order of their numbers."""
        return EngineObserver(self, model, lanes)

    def watch(self, batcher: BatcherState) -> None:
        """Show a batcher's queue from now on."""
        self._batchers = [*self._batchers, batcher]

    def watch_decoding(self, counts: DecodeCounts) -> None:
        """Show what decoding within limits has refused and dropped from now on."""
        self.decoding.watch(counts)

    def watch_canary(self, model: str, canary: CanaryState) -> None:
        """Show a model's canary from now on."""
        self._canaries = {**self._canaries, model: canary}

    def tell_parity(self, model: str, cosine: float | None) -> None:
        """Show how near a model's answers are to its reference's from now on; None: it has no reference."""
        self._parities = {**self._parities, model: math.nan if cosine is None else cosine}

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges, read now."""
        queue = _gauge(
            "queue_items", "Items admitted and not yet answered: in decoding, waiting, in the device.", _LANE
        )
        waiting = _gauge("waiting_items", "Items that are ready and wait for the device.", _LANE)
        held = _gauge("queue_bytes", "Bytes of the items admitted and not yet answered.", _LANE)
        item_limit = _gauge("queue_limit_items", "Most items that each lane admits.", _MODEL)
        byte_limit = _gauge("queue_limit_bytes", "Most bytes that each lane admits.", _MODEL)
        wait = _gauge("predicted_wait_seconds", "Time until a bulk item that came now would be in a device.", _MODEL)
        running = _gauge("batch_running_seconds", "How long the batch in the device has run; 0 when idle.", _MODEL)
        devices = _gauge("devices", "Devices, or workers on the CPU, that compute; a lost one has left.", _MODEL)
        batch_limit = _gauge("batch_limit", "Items in one batch now: fewer after running out of memory.", _MODEL)
        for batcher in self._batchers:
            model = (batcher.name,)
            for lane, items, ready, size in batcher.lane_depths():
                queue.add_metric((batcher.name, lane), items)
                waiting.add_metric((batcher.name, lane), ready)
                held.add_metric((batcher.name, lane), size)
            items_limit, bytes_limit = batcher.limits()
            item_limit.add_metric(model, items_limit)
            byte_limit.add_metric(model, bytes_limit)
            wait.add_metric(model, batcher.expected_wait_s)
            running.add_metric(model, batcher.running_s)
            devices.add_metric(model, batcher.devices)
            batch_limit.add_metric(model, batcher.batch_limit)
        age = _gauge("canary_age_seconds", "Time since the canary last passed.", _MODEL)
        passes = _gauge("canary_ok", "Whether the canary passed when last asked: 1 or 0.", _MODEL)
        for name, canary in self._canaries.items():
            passed_s: Any = canary.age_s
            if passed_s is not None:
                age.add_metric((name,), passed_s)
                passes.add_metric((name,), float(canary.passes))
        yield from (queue, waiting, held, item_limit, byte_limit, wait, running, devices, batch_limit)
        if self._canaries:
            yield from (age, passes)
        parity = _gauge(
            "parity_cosine",
            "Least cosine between the model's answers and its float32 reference's, found at start; NaN: no reference.",
            _MODEL,
        )
        for name, cosine in self._parities.items():
            parity.add_metric((name,), cosine)
        yield parity


def _gauge(name: str, text: str, labels: Sequence[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"lensmesh_engine_{name}", text, labels=labels)
