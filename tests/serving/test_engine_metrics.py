"""What is shown of an engine: gauges as they are when asked for, events under their model and lane."""

import math
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from lensmesh_serving.metrics.engine import EngineMetrics

LANES = ["interactive", "bulk"]


class FakeEngine:
    """Numbers to be shown."""

    name = "model-a"
    expected_wait_s = 1.5
    running_s = 2.5
    bulk = 7

    def lane_depths(self) -> Iterator[tuple[str, int, int, int]]:
        yield "interactive", 1, 0, 100
        yield "bulk", self.bulk, 5, 700

    devices = 2
    batch_limit = 16

    def limits(self) -> tuple[int, int]:
        return 10, 1000


class FakeCanary:
    age_s: float | None = None
    passes = False


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"lensmesh_engine_{name}", {"model": "model-a", **labels})


def test_gauges_are_read_when_they_are_asked_for(registry: CollectorRegistry) -> None:
    engine = FakeEngine()
    EngineMetrics(registry).watch(engine)
    assert value(registry, "queue_items", lane="bulk") == 7
    engine.bulk = 9
    assert value(registry, "queue_items", lane="bulk") == 9
    assert value(registry, "queue_items", lane="interactive") == 1
    assert value(registry, "waiting_items", lane="bulk") == 5
    assert value(registry, "queue_bytes", lane="bulk") == 700
    assert value(registry, "queue_limit_items") == 10
    assert value(registry, "queue_limit_bytes") == 1000
    assert value(registry, "predicted_wait_seconds") == 1.5
    assert value(registry, "batch_running_seconds") == 2.5
    assert value(registry, "devices") == 2
    assert value(registry, "batch_limit") == 16


def test_parity_is_shown_and_not_made_up(registry: CollectorRegistry) -> None:
    metrics = EngineMetrics(registry)
    assert value(registry, "parity_cosine") is None
    metrics.tell_parity("model-a", 0.9997)
    assert value(registry, "parity_cosine") == 0.9997
    metrics.tell_parity("model-a", None)
    shown = value(registry, "parity_cosine")
    assert shown is not None
    assert math.isnan(shown)


def test_events_are_counted_under_their_model_and_lane(registry: CollectorRegistry) -> None:
    observer = EngineMetrics(registry).observe("model-a", LANES)
    observer.prepared(0.01)
    observer.computed(8, 0.2)
    observer.computed(4, 0.1)
    observer.waited(0, 0.003)
    observer.waited(1, 0.5)
    observer.waited(1, 0.7)
    observer.batch_failed()
    observer.poisoned()
    observer.refused(0)
    observer.late(1, 3)
    assert value(registry, "prepare_seconds_count") == 1
    assert value(registry, "batch_items_sum") == 12
    assert value(registry, "forward_seconds_sum") == pytest.approx(0.3)
    assert value(registry, "queue_seconds_count", lane="interactive") == 1
    assert value(registry, "queue_seconds_sum", lane="bulk") == pytest.approx(1.2)
    assert value(registry, "failed_batches_total") == 1
    assert value(registry, "poison_items_total") == 1
    assert value(registry, "refused_total", lane="interactive") == 1
    assert value(registry, "refused_total", lane="bulk") == 0
    assert value(registry, "late_items_total", lane="bulk") == 3


def test_a_canary_is_shown_once_it_has_sung(registry: CollectorRegistry) -> None:
    canary = FakeCanary()
    EngineMetrics(registry).watch_canary("model-a", canary)
    assert value(registry, "canary_ok") is None
    canary.age_s, canary.passes = 12.0, True
    assert value(registry, "canary_age_seconds") == 12
    assert value(registry, "canary_ok") == 1
    canary.passes = False
    assert value(registry, "canary_ok") == 0
