"""A trace shows what was not computed: the outcome on the item's span, and no span of what did not happen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from encoder_svc.engine import ServedEncoder, TextInput, TextPools
from encoder_svc.settings import EncoderSettings
from lensmesh_chassis.telemetry import spans
from lensmesh_inference.batching.batcher import Lane
from lensmesh_inference.cache.tiered import TieredCache
from lensmesh_inference.health import ModelHealth
from lensmesh_inference.registry import ModelRegistry
from lensmesh_serving.metrics.engine import EngineMetrics
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
    health = ModelHealth(settings.health_options, lambda _: None, None, metrics)
    texts = TextPools()
    models = ModelRegistry(
        [HeldModel()],
        lambda model, resources: ServedEncoder(model, resources, texts),
        decoding=settings.decode_options,
        batching=settings.batching_options,
        health=health,
        cache=TieredCache(1024**2),
        observer=metrics,
        pools=texts.all,
    )
    await models.start()
    try:
        spans.current_tracer.set(traced.provider.get_tracer("test"))
        served = models.default
        item = served.item(TextInput("a cat", "text"), served.model.facts.spaces[0])
        for index in range(2):
            with traced.provider.get_tracer("test").start_as_current_span("server"):
                attributes = {spans.ITEM_INDEX: index}
                await served.engine.run_batch([item], lane=Lane.BULK, attributes=attributes)
    finally:
        await models.stop()
    kept = list(traced.exporter.get_finished_spans())
    # One after the other, so in their order.
    assert [(span.attributes or {})[spans.CACHE] for span in named(kept, "item")] == ["miss", "hit"]
    assert [len(named(kept, name)) for name in ("tokenize", "queue", "batch", "forward")] == [1, 1, 1, 1]
