"""A chunk travels as one, and each of its items has a fate of its own."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Sequence

import pytest

from lensmesh_chassis.errors import DeadlineExceeded, InternalFault, InvalidInput, Overloaded, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.batching.batcher import Lane
from lensmesh_inference.cache.observer import CacheOutcome
from lensmesh_inference.cache.tiered import TieredCache
from lensmesh_inference.images.care import NeedsCareError
from lensmesh_inference.items import Completed, EngineItem, Failed, ItemOutcome
from tests.inference.engines import LARGE, Doubler, item, started, streamed
from tests.support.waiting import until


class Held:
    """Items that are held while they are prepared, and what has begun."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.begun: list[int] = []

    def item(self, number: int) -> EngineItem[int, int]:
        def prepare() -> int:
            self.begun.append(number)
            assert self.free.wait(60)
            return number

        return dataclasses.replace(item(number), prepare=prepare)


def values(outcomes: Sequence[ItemOutcome[int]]) -> list[int | type[Exception]]:
    """What came of each item: its value, or the class of its error."""
    return [outcome.value if isinstance(outcome, Completed) else type(outcome.error) for outcome in outcomes]


@pytest.mark.parametrize("cache_bytes", [0, 1024**2])
async def test_poison_lateness_and_cancellation_in_one_batch_concern_their_items_alone(cache_bytes: int) -> None:
    model = Doubler()
    async with started(model, TieredCache(cache_bytes)) as engine:
        model.free.clear()
        first = asyncio.create_task(streamed(engine, [item(0)]))
        await until(model.inside.is_set)
        deadline = asyncio.get_running_loop().time() + 0.05
        good = asyncio.create_task(streamed(engine, [item(1), item(666), item(-1), item(13), item(2)]))
        late = asyncio.create_task(streamed(engine, [item(3), item(4)], deadline=deadline))
        left = asyncio.create_task(streamed(engine, [item(5), item(6)]))
        await until(lambda: engine.batcher.queued_items == 4 + 2 + 2)
        left.cancel()
        await until(lambda: asyncio.get_running_loop().time() > deadline and engine.batcher.queued_items == 4 + 2)
        model.free.set()
        assert values(await good) == [2, InternalFault, InvalidInput, InternalFault, 4]
        assert values(await late) == [DeadlineExceeded] * 2
        assert values(await first) == [0]
        with pytest.raises(asyncio.CancelledError):
            await left
        assert engine.batcher.held_items == 0
    assert {3, 4, 5, 6}.isdisjoint(number for batch in model.batches for number in batch)


@pytest.mark.parametrize("threads", [1, 2])
async def test_cancelled_in_the_middle_of_a_chunk_no_thread_begins_another_item(threads: int) -> None:
    held, model = Held(), Doubler()
    async with started(model, threads=threads) as engine:
        running = asyncio.create_task(streamed(engine, [held.item(number) for number in range(8)]))
        await until(lambda: len(held.begun) == threads)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert engine.batcher.held_items == 0
        held.free.set()
        # The threads are free again.
        assert values(await streamed(engine, [item(21)])) == [42]
        assert engine.batcher.queued_items == 0
    assert sorted(held.begun) == list(range(threads))
    assert model.batches == [[21]]


async def test_a_cancelled_chunk_goes_on_with_what_another_caller_waits_for() -> None:
    held, again, model = Held(), Held(), Doubler()
    async with started(model, TieredCache(1024**2), threads=2) as engine:
        leaving = asyncio.create_task(streamed(engine, [held.item(0), item(1)]))
        await until(lambda: held.begun == [0] and engine.batcher.held_items == 1)
        told: dict[int, ItemOutcome[int]] = {}
        chunk = [again.item(0), item(2)]
        staying = asyncio.create_task(engine.run_some(chunk, told.__setitem__, lane=Lane.BULK))
        await until(lambda: list(told) == [1])
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert engine.batcher.held_items == 1
        held.free.set()
        await staying
        assert engine.batcher.held_items == 0
    assert values([told[place] for place in range(2)]) == [0, 4]
    assert again.begun == [], "it was computed already, for the one who left"


async def test_equal_contents_of_one_chunk_are_computed_once_whichever_threads_have_them() -> None:
    model = Doubler()
    numbers = [1, 2, 1, 3, 1, 2] * 5
    async with started(model, TieredCache(1024**2), threads=3) as engine:
        outcomes = await streamed(engine, [item(number, size=LARGE) for number in numbers])
    assert values(outcomes) == [2 * number for number in numbers]
    assert sorted(number for batch in model.batches for number in batch) == [1, 2, 3]
    told = [outcome.timing.cache for outcome in outcomes if isinstance(outcome, Completed)]
    assert told.count(CacheOutcome.MISS) == 3


async def test_equal_items_that_cannot_be_prepared_fail_each_by_itself() -> None:
    async with started(Doubler(), TieredCache(1024**2), threads=3) as engine:
        outcomes = await streamed(engine, [item(-1)] * 3 + [item(1)] + [item(-1)] * 3)
        assert engine.batcher.held_items == 0
    assert values(outcomes) == [InvalidInput] * 3 + [2] + [InvalidInput] * 3
    errors = [outcome.error for outcome in outcomes if isinstance(outcome, Failed)]
    assert len({id(error) for error in errors}) == 6, "each is named as in its own request"


@pytest.mark.parametrize("size", [0, LARGE])
async def test_a_full_queue_answers_what_is_known_and_lets_the_rest_of_a_chunk_wait(size: int) -> None:
    model = Doubler()
    async with started(model, TieredCache(1024**2), max_queue_items=2) as engine:
        await streamed(engine, [item(1, size=size), item(2, size=size)])
        model.free.clear()
        busy = asyncio.create_task(engine.run_batch([item(7), item(8)], lane=Lane.BULK))
        await until(lambda: engine.batcher.held_items == 2)
        outcomes = await engine.run_batch([item(number, size=size) for number in (1, 2, 1)], lane=Lane.BULK)
        assert values(outcomes) == [2, 4, 2]
        with pytest.raises(Overloaded):
            await engine.run_batch([item(1, size=size), item(3, size=size)], lane=Lane.BULK)
        told: dict[int, ItemOutcome[int]] = {}
        chunk = [item(number, size=size) for number in (3, 1, 4, 2)]
        waiting = asyncio.create_task(engine.run_some(chunk, told.__setitem__, lane=Lane.BULK))
        await until(lambda: len(told) == 2)
        assert sorted(told) == [1, 3]
        assert engine.batcher.held_items == 2
        model.free.set()
        await waiting
        await busy
    assert values([told[place] for place in range(4)]) == [6, 2, 8, 4]


async def test_items_of_a_chunk_are_told_as_they_are_ready() -> None:
    held = Held()
    async with started(Doubler(), threads=2) as engine:
        told: dict[int, ItemOutcome[int]] = {}
        chunk = [held.item(0), item(1), item(2)]
        running = asyncio.create_task(engine.run_some(chunk, told.__setitem__, lane=Lane.BULK))
        await until(lambda: sorted(told) == [1, 2])
        held.free.set()
        await running
    assert values([told[0]]) == [0]


async def test_an_image_that_needs_care_is_prepared_in_a_careful_thread_and_others_go_on() -> None:
    free, threads = threading.Event(), list[str]()

    def careful() -> int:
        threads.append(threading.current_thread().name)
        if "careful" not in threads[-1]:
            raise NeedsCareError
        assert free.wait(60)
        return 50

    async with started(Doubler(), threads=1) as engine:
        told: dict[int, ItemOutcome[int]] = {}
        chunk = [dataclasses.replace(item(50), prepare=careful), item(1), item(2)]
        running = asyncio.create_task(engine.run_some(chunk, told.__setitem__, lane=Lane.BULK))
        await until(lambda: sorted(told) == [1, 2])
        free.set()
        await running
    assert values([told[place] for place in range(3)]) == [100, 2, 4]
    assert len(threads) == 2


async def test_a_closed_queue_is_the_outcome_of_each_item() -> None:
    async with started(Doubler()) as engine:
        await engine.batcher.stop()
        assert values(await streamed(engine, [item(1), item(-1)])) == [Unavailable] * 2


class Seen:
    """Brief items, and the threads in which they were prepared."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def item(self, number: int, *, seconds: float = 0.0) -> EngineItem[int, int]:
        def prepare() -> int:
            self.threads.append(threading.current_thread())
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                pass
            if number < 0:
                raise InvalidInput(Reason.OPTION_INVALID, "a number below 0", field="number")
            return number

        return dataclasses.replace(item(number), prepare=prepare, brief=True)


@pytest.mark.parametrize("cache_bytes", [0, 1024**2])
async def test_brief_items_of_a_call_are_prepared_on_the_event_loop_and_those_of_a_stream_in_threads(
    cache_bytes: int,
) -> None:
    seen, here = Seen(), threading.current_thread()
    async with started(Doubler(), TieredCache(cache_bytes)) as engine:
        call = [seen.item(1), seen.item(-1), seen.item(13), seen.item(2)]
        outcomes = await engine.run_batch(call, lane=Lane.INTERACTIVE)
        assert values(outcomes) == [2, InvalidInput, InternalFault, 4]
        assert set(seen.threads) == {here}
        seen.threads.clear()
        assert values(await streamed(engine, [seen.item(3)])) == [6]
        assert here not in seen.threads
        assert engine.batcher.held_items == 0


async def test_a_brief_item_is_computed_for_whoever_still_waits_when_its_first_caller_is_late() -> None:
    seen, model = Seen(), Doubler()
    async with started(model, TieredCache(1024**2)) as engine:
        model.free.clear()
        busy = asyncio.create_task(engine.run_batch([item(0)], lane=Lane.INTERACTIVE))
        await until(model.inside.is_set)
        deadline = asyncio.get_running_loop().time() + 0.05
        late = asyncio.create_task(engine.run_batch([seen.item(1)], lane=Lane.INTERACTIVE, deadline=deadline))
        await until(lambda: engine.batcher.held_items == 2)
        patient = asyncio.create_task(engine.run_batch([seen.item(1)], lane=Lane.INTERACTIVE))
        await until(lambda: engine.batcher.held_items == 3 and asyncio.get_running_loop().time() > deadline)
        model.free.set()
        assert values(await late) == [DeadlineExceeded]
        assert values(await patient) == [2]
        await busy


async def test_items_that_are_not_so_brief_leave_the_others_of_their_call_to_threads() -> None:
    seen, here = Seen(), threading.current_thread()
    async with started(Doubler()) as engine:
        call = [seen.item(number, seconds=0.002) for number in range(3)]
        assert values(await engine.run_batch(call, lane=Lane.INTERACTIVE)) == [0, 2, 4]
    assert [thread is here for thread in seen.threads].count(True) == 1
