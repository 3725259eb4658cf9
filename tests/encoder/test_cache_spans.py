"""A trace shows what was not computed: the outcome on the item's span, and no span of what did not happen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.samples import Exemplar

from encoder_svc.engine import ServedEncoder, TextInput, TextPools
from encoder_svc.settings import EncoderSettings
from lensmesh_chassis.telemetry import spans
from lensmesh_inference.batching.batcher import Lane
from lensmesh_inference.cache.tiered import TieredCache
from lensmesh_inference.health import ModelHealth
from lensmesh_inference.registry import ModelRegistry
from lensmesh_serving.metrics.engine import EngineMetrics
from tests.encoder.helpers import HeldModel
from tests.support.spans_kept import Traced, id_of, named


@pytest.fixture
def traced() -> Iterator[Traced]:
    one = Traced()
    yield one
    one.provider.shutdown()


@asynccontextmanager
async def started(registry: CollectorRegistry) -> AsyncIterator[ServedEncoder]:
    """A model that is served with these metrics."""
    settings = EncoderSettings(canary_seconds=0, hang_seconds=0)
    metrics = EngineMetrics(registry)
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
        yield models.default
    finally:
        await models.stop()


async def test_the_outcome_is_on_the_items_span(traced: Traced) -> None:
    async with started(CollectorRegistry()) as served:
        spans.current_tracer.set(traced.provider.get_tracer("test"))
        item = served.item(TextInput("a cat", "text"), served.model.facts.spaces[0])
        for index in range(2):
            with traced.provider.get_tracer("test").start_as_current_span("server"):
                attributes = {spans.ITEM_INDEX: index}
                await served.engine.run_batch([item], lane=Lane.BULK, attributes=attributes)
    kept = list(traced.exporter.get_finished_spans())
    # One after the other, so in their order.
    assert [(span.attributes or {})[spans.CACHE] for span in named(kept, "item")] == ["miss", "hit"]
    assert [len(named(kept, name)) for name in ("tokenize", "queue", "batch", "forward")] == [1, 1, 1, 1]


async def test_exemplars_lead_to_the_span_of_the_item_or_of_its_batch(traced: Traced) -> None:
    registry = CollectorRegistry()
    async with started(registry) as served:
        spans.current_tracer.set(traced.provider.get_tracer("test"))
        item = served.item(TextInput("a cat", "text"), served.model.facts.spaces[0])
        with traced.provider.get_tracer("test").start_as_current_span("server"):
            await served.engine.run_batch([item], lane=Lane.BULK)
    kept = list(traced.exporter.get_finished_spans())
    samples = [sample for metric in registry.collect() for sample in metric.samples if sample.exemplar]
    led = {sample.name: (sample.exemplar or Exemplar({}, 0)).labels["span_id"] for sample in samples}
    of = {name: f"{id_of(named(kept, name)[0]):016x}" for name in ("item", "batch")}
    assert led == {
        "lensmesh_engine_prepare_seconds_bucket": of["item"],
        "lensmesh_engine_queue_seconds_bucket": of["item"],
        "lensmesh_engine_forward_seconds_bucket": of["batch"],
    }
