"""The one call into a model's engine: an outcome for each item in order, or a refusal of all."""

from __future__ import annotations

import asyncio

import pytest

from lensmesh_chassis.errors import LensmeshError, Overloaded
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.batching.batcher import Lane
from lensmesh_inference.cache.observer import CacheOutcome
from lensmesh_inference.cache.tiered import TieredCache
from lensmesh_inference.items import Completed, Failed
from tests.inference.engines import Doubler, item, started, streamed
from tests.support.waiting import until


async def test_each_item_has_its_outcome_in_order() -> None:
    unread = ValueError("could not be read")
    async with started(Doubler()) as engine:
        outcomes = await engine.run_batch([item(1), unread, item(-1), item(13), item(2)], lane=Lane.BULK)
    values = [outcome.value for outcome in outcomes if isinstance(outcome, Completed)]
    errors = [outcome.error for outcome in outcomes if isinstance(outcome, Failed)]
    assert [type(outcome) for outcome in outcomes] == [Completed, Failed, Failed, Failed, Completed]
    assert values == [2, 4]
    assert errors[0] is unread
    assert [error.reason for error in errors if isinstance(error, LensmeshError)] == [
        Reason.OPTION_INVALID,
        Reason.MODEL_FAILED,
    ]


async def test_a_full_lane_refuses_all_items_of_a_call_and_one_alone_waits() -> None:
    model = Doubler()
    async with started(model, max_queue_items=4) as engine:
        model.free.clear()
        first = asyncio.create_task(engine.run_batch([item(number) for number in range(3)], lane=Lane.BULK))
        await until(lambda: engine.batcher.held_items == 3)
        with pytest.raises(Overloaded):
            await engine.run_batch([item(7), item(8)], lane=Lane.BULK)
        waiting = asyncio.create_task(streamed(engine, [item(9)]))
        assert engine.batcher.held_items == 3
        model.free.set()
        assert all(isinstance(outcome, Completed) for outcome in await first)
        assert [outcome.value for outcome in await waiting if isinstance(outcome, Completed)] == [18]
        assert engine.batcher.held_items == 0
    assert {7, 8}.isdisjoint(number for batch in model.batches for number in batch)


async def test_what_the_cache_has_needs_no_room_and_is_converted_for_each_caller() -> None:
    model = Doubler()
    async with started(model, TieredCache(1024**2), max_queue_items=1) as engine:
        assert (await engine.run_one(item(1), lane=Lane.INTERACTIVE)).timing.cache is CacheOutcome.MISS
        model.free.clear()
        busy = asyncio.create_task(engine.run_one(item(2), lane=Lane.BULK))
        await until(lambda: engine.batcher.held_items == 1)
        (outcome,) = await engine.run_batch([item(1, plus=100)], lane=Lane.BULK)
        assert isinstance(outcome, Completed)
        assert (outcome.value, outcome.timing.cache) == (102, CacheOutcome.HIT)
        model.free.set()
        await busy
        # A canary asks the model itself.
        assert await engine.probe([item(1), item(1)], device=0) == [2, 2]
    assert [batch for batch in model.batches if batch == [1]] == [[1]] * 3
