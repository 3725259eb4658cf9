"""A trace shows what was not computed: the outcome on the item's span, and no span of what did not happen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from encoder_svc.engine import Engine, Text
from encoder_svc.settings import EncoderSettings
from lensmesh_chassis.telemetry import spans
from lensmesh_chassis.telemetry.engine_metrics import EngineMetrics
from lensmesh_inference.batching.batcher import Lane
from lensmesh_inference.batching.tracing import item_span
from lensmesh_inference.cache.levels import Cache
from lensmesh_inference.health import ModelHealth
from tests.encoder.helpers import HeldModel
from tests.support.spans_kept import Traced, named


@pytest.fixture
def traced() -> Iterator[Traced]:
    one = Traced()
    yield one
    one.provider.shutdown()


async def test_the_outcome_is_on_the_items_span(traced: Traced) -> None:
    settings = EncoderSettings(canary_seconds=0, hang_seconds=0)
    metrics = EngineMetrics(CollectorRegistry())
    health = ModelHealth(settings, lambda _: None, None, metrics)
    engine = Engine([HeldModel()], settings, metrics, health, Cache(1024**2))
    await engine.start()
    try:
        spans.current_tracer.set(traced.provider.get_tracer("test"))
        job = engine.job("", Lane.BULK, None)
        for index in range(2):
            with traced.provider.get_tracer("test").start_as_current_span("server"), item_span(index):
                await engine.encode(engine.work(Text("a cat", "text"), job), job)
    finally:
        await engine.stop()
    kept = list(traced.exporter.get_finished_spans())
    # One after the other, so in their order.
    assert [(span.attributes or {})[spans.CACHE] for span in named(kept, "item")] == ["miss", "hit"]
    assert [len(named(kept, name)) for name in ("tokenize", "queue", "batch", "forward")] == [1, 1, 1, 1]
