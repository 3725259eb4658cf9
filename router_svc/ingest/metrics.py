"""Counts images on their way in: how many, how long, and what became of them."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import prometheus_client
from prometheus_client import CollectorRegistry

from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import (
    AlreadyExists,
    Cancelled,
    InvalidInput,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
)
from lensmesh_chassis.telemetry.exemplars import exemplar
from lensmesh_chassis.telemetry.loop_metrics import Counter, Distribution, Gauge, Histogram, Number

# The caller's own doing: no operator can help.
_REFUSALS = (InvalidInput, NotFound, AlreadyExists, PreconditionFailed, PermissionDenied)
_STORED = {
    search_pb2.UPSERT_OUTCOME_CREATED: "created",
    search_pb2.UPSERT_OUTCOME_UPDATED: "updated",
    search_pb2.UPSERT_OUTCOME_UNCHANGED: "unchanged",
    search_pb2.UPSERT_OUTCOME_SKIPPED: "skipped",
}
OUTCOMES = (*_STORED.values(), "refused", "failed", "cancelled")
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class CountedItem:
    """An item while it is ingested. Unless told otherwise, it failed."""

    def __init__(self, seconds: Distribution, uncaptioned: Number) -> None:
        self._seconds = seconds
        self._uncaptioned = uncaptioned
        self._begun = time.perf_counter()
        self.outcome = "failed"

    def durable(self, done: router_pb2.IngestedItem) -> None:
        """Note what became of an item that is durable now."""
        self.outcome = _STORED.get(done.outcome, "failed")
        self._seconds.observe(time.perf_counter() - self._begun, exemplar())
        if done.HasField("caption_error"):
            self._uncaptioned.inc()


class IngestMetrics:
    """All Ingest calls and streams of one router. `held_bytes` tells how much their streams hold now."""

    def __init__(self, registry: CollectorRegistry, held_bytes: Callable[[], int]) -> None:
        r = registry
        items = Counter(
            "lensmesh_ingest_items_total",
            "Items answered: created, updated, unchanged, skipped (a near-duplicate); refused (the caller's fault), "
            "failed (not the caller's), cancelled (the caller left).",
            ("outcome",),
            registry=r,
        )
        self._items = {outcome: items.labels(outcome) for outcome in OUTCOMES}
        self._in_flight = Gauge(
            "lensmesh_ingest_in_flight_items", "Items read and not yet answered.", (), registry=r
        ).labels()
        self._seconds = Histogram(
            "lensmesh_ingest_item_seconds",
            "Time from an item's turn to its answer, for items that became durable.",
            (),
            buckets=_SECONDS,
            registry=r,
        ).labels()
        self._uncaptioned = Counter(
            "lensmesh_ingest_uncaptioned_items_total",
            "Items stored without the caption they should have.",
            (),
            registry=r,
        ).labels()
        prometheus_client.Gauge(
            "lensmesh_ingest_in_flight_bytes", "Bytes that all streams hold, of those they may hold.", registry=r
        ).set_function(held_bytes)

    @contextmanager
    def item(self) -> Iterator[CountedItem]:
        """Count one item. What is raised is counted by its kind."""
        item = CountedItem(self._seconds, self._uncaptioned)
        self._in_flight.inc()
        try:
            yield item
        except _REFUSALS:
            item.outcome = "refused"
            raise
        except (asyncio.CancelledError, Cancelled):
            item.outcome = "cancelled"
            raise
        finally:
            self._in_flight.dec()
            self._items[item.outcome].inc()
