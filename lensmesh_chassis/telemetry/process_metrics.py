"""Metrics of a process: memory, CPU, descriptors, health, release, and how long its event loop keeps work waiting."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from lensmesh_chassis.process.health import HealthState
from lensmesh_chassis.process.server_info import version

# Often enough to meet a loop that is blocked for a tenth of a second, seldom enough to cost nothing.
LAG_EVERY_S = 0.1
_LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


def describe_process(registry: CollectorRegistry, component: str, health: HealthState, restarts: int) -> None:
    """Add the metrics that every process shows. `component` is the service's short name, "encoder"."""
    # Otherwise each counter and histogram gets one more series, which nobody asks for.
    without_created: Any = disable_created_metrics
    without_created()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(_HealthCollector(health))
    build = Gauge(
        "lensmesh_build_info", "Always 1; the labels tell the release.", ("component", "version"), registry=registry
    )
    build.labels(component, version()).set(1)
    Counter(
        "lensmesh_restarts_total", "Times that the supervisor has started this service again.", registry=registry
    ).inc(restarts)


class _HealthCollector(Collector):
    """Collector that reads the health at each scrape, in whatever phase the process is."""

    def __init__(self, health: HealthState) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "lensmesh_health_serving",
            "Whether grpc.health.v1 says SERVING: 1 or 0. It is 0 while the process starts and drains.",
            labels=("service",),
        )
        for service in self._health.services():
            family.add_metric((service,), float(self._health.is_serving(service)))
        yield family


class LoopLag:
    """Timer that observes by how much it wakes up too late: every call had to wait as long."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "lensmesh_event_loop_lag_seconds",
            "How much later than asked for the event loop ran a timer.",
            buckets=_LAG_SECONDS,
            registry=registry,
        )
        self._tasks = Gauge(
            "lensmesh_event_loop_tasks", "Tasks on the event loop that have not ended.", registry=registry
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start on the running loop."""
        loop = asyncio.get_running_loop()
        # Read in the thread of a scrape: all_tasks() copies its set, and tries again where that has changed meanwhile.
        self._tasks.set_function(lambda: len(asyncio.all_tasks(loop)))
        self._task = asyncio.create_task(self._watch(), name="event-loop-lag")

    async def stop(self) -> None:
        """Stop."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _watch(self) -> None:
        while True:
            # Not the loop's own clock: uvloop's tells when the loop last woke up, in milliseconds.
            due = time.monotonic() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self._seconds.observe(max(0.0, time.monotonic() - due))
