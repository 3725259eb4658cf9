"""What is shown of a cache: gauges as they are when asked for, outcomes under their model, also unseen ones."""

import pytest
from prometheus_client import CollectorRegistry

from lensmesh_inference.cache.lru import ENTRY_BYTES
from lensmesh_inference.cache.observer import CacheOutcome
from lensmesh_inference.cache.tiered import TieredCache
from lensmesh_serving.metrics.cache import CacheMetrics


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_outcomes_are_counted_by_model(registry: CollectorRegistry) -> None:
    metrics = CacheMetrics(registry)
    metrics.show("a")
    for outcome in (CacheOutcome.HIT, CacheOutcome.HIT, CacheOutcome.COALESCED, CacheOutcome.UNASKED):
        metrics.answered("a", outcome)
    shown = {
        outcome: registry.get_sample_value("lensmesh_cache_requests_total", {"model": "a", "outcome": outcome})
        for outcome in ("miss", "hit", "coalesced", "unasked")
    }
    assert shown == {"miss": 0, "hit": 2, "coalesced": 1, "unasked": None}


def test_failures_of_the_shared_cache_are_counted_by_operation(registry: CollectorRegistry) -> None:
    metrics = CacheMetrics(registry)
    metrics.shared_failed("read")
    shown = [
        registry.get_sample_value("lensmesh_cache_errors_total", {"operation": operation})
        for operation in ("read", "write")
    ]
    assert shown == [1, 0]


def test_gauges_are_read_when_they_are_asked_for(registry: CollectorRegistry) -> None:
    metrics = CacheMetrics(registry)
    assert registry.get_sample_value("lensmesh_cache_items") is None
    cache = TieredCache(2 * (ENTRY_BYTES + 100))
    metrics.watch(cache)
    for number, items in ((1, 1), (2, 2), (3, 2)):
        cache.put(str(number), bytes(50))
        assert registry.get_sample_value("lensmesh_cache_items") == items
        assert registry.get_sample_value("lensmesh_cache_bytes") == cache.held_bytes > 0
    assert registry.get_sample_value("lensmesh_cache_evictions_total") == 1
