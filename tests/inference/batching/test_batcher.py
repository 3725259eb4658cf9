"""The batcher under stress: overload, cancellation, deadlines, poison, two lanes, stopping."""

from __future__ import annotations

import asyncio

import pytest

from lensmesh_chassis.errors import (
    DeadlineExceeded,
    InternalFault,
    InvalidInput,
    Overloaded,
    Unavailable,
)
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.batching.batcher import ItemOutput, Lane
from lensmesh_inference.batching.selection import INTERACTIVE_BATCHES_IN_A_ROW
from tests.inference.batching.asking import submit
from tests.inference.batching.doubler import Doubler, hold, put, started
from tests.support.waiting import until


async def test_an_idle_device_starts_at_once_and_says_where_the_time_went() -> None:
    async with started(Doubler()) as batcher:
        answer = await submit(batcher, 21, lane=Lane.INTERACTIVE, size_bytes=1)
    assert (answer.value, answer.batch_size) == (42, 1)
    assert answer.queue_us >= 0
    assert answer.compute_us >= 0


async def test_a_busy_device_lets_the_next_batch_gather() -> None:
    model = Doubler()
    async with started(model) as batcher:
        first = await hold(model, batcher)
        tasks = [put(batcher, item) for item in range(1, 8)]
        await until(lambda: batcher.queued_items == 7)
        model.free.set()
        answers = await asyncio.gather(first, *tasks)
    assert [answer.value for answer in answers] == [0, 2, 4, 6, 8, 10, 12, 14]
    assert model.batches == [[0], [1, 2, 3, 4], [5, 6, 7]]
    assert answers[1].batch_size == 4
    assert len(model.threads) == 1


async def test_what_is_submitted_together_rides_together() -> None:
    model = Doubler()
    async with started(model) as batcher:
        await asyncio.gather(*(put(batcher, item) for item in range(4)))
    assert model.batches == [[0, 1, 2, 3]]


async def test_a_batch_holds_one_group_only() -> None:
    model = Doubler()
    async with started(model) as batcher:
        first = await hold(model, batcher)
        tasks = [put(batcher, item, group="even" if item % 2 == 0 else "odd") for item in range(1, 7)]
        await until(lambda: batcher.queued_items == 6)
        model.free.set()
        await asyncio.gather(first, *tasks)
    assert model.batches[1:] == [[1, 3, 5], [2, 4, 6]]


async def test_interactive_goes_before_bulk_and_bulk_rides_along() -> None:
    model = Doubler()
    async with started(model) as batcher:
        first = await hold(model, batcher)
        tasks = [put(batcher, item) for item in (1, 2, 3, 4, 5)]
        await until(lambda: batcher.queued_items == 5)
        tasks += [put(batcher, item, Lane.INTERACTIVE) for item in (6, 7)]
        await until(lambda: batcher.queued_items == 7)
        model.free.set()
        await asyncio.gather(first, *tasks)
    assert model.batches[1:] == [[6, 7, 1, 2], [3, 4, 5]]


async def test_bulk_is_not_starved() -> None:
    model = Doubler()
    async with started(model, max_batch=1) as batcher:
        first = await hold(model, batcher)
        tasks = [put(batcher, 1)]
        tasks += [put(batcher, item, Lane.INTERACTIVE) for item in range(10, 30)]
        await until(lambda: batcher.queued_items == 21)
        model.free.set()
        await asyncio.gather(first, *tasks)
    assert model.batches.index([1]) == 1 + INTERACTIVE_BATCHES_IN_A_ROW


async def test_a_full_lane_refuses_with_a_delay_and_leaves_the_other_lane_alone() -> None:
    model = Doubler()
    async with started(model, max_queue_items=3) as batcher:
        first = await hold(model, batcher)
        tasks = [put(batcher, item) for item in (1, 2)]
        await until(lambda: batcher.queued_items == 2)
        with pytest.raises(Overloaded) as caught:
            await put(batcher, 3)
        assert caught.value.reason is Reason.OVERLOADED
        assert caught.value.retry_after_s is not None
        assert caught.value.retry_after_s > 0
        interactive = put(batcher, 4, Lane.INTERACTIVE)
        await until(lambda: batcher.queued_items == 3)
        model.free.set()
        await asyncio.gather(first, *tasks, interactive)
        assert batcher.held_items == 0
        assert batcher.held_bytes == 0
        assert (await put(batcher, 3)).value == 6


async def test_bytes_are_bounded_too_and_one_large_item_passes_an_empty_lane() -> None:
    model = Doubler()
    async with started(model, max_queue_bytes=25) as batcher:
        first = await hold(model, batcher)
        second = put(batcher, 1)
        await until(lambda: batcher.queued_items == 1)
        with pytest.raises(Overloaded, match="25 bytes"):
            await put(batcher, 2)
        model.free.set()
        await asyncio.gather(first, second)
        assert (await submit(batcher, 5, lane=Lane.BULK, size_bytes=1000)).value == 10


async def test_a_seat_holds_room_for_a_whole_call() -> None:
    model = Doubler()
    async with started(model, max_queue_items=5) as batcher:
        with batcher.admit(Lane.BULK, items=4, size_bytes=40) as reservation:
            with pytest.raises(Overloaded):
                batcher.admit(Lane.BULK, items=2, size_bytes=20)
            answers = await asyncio.gather(*(put(batcher, item, reservation=reservation) for item in range(4)))
            assert [answer.value for answer in answers] == [0, 2, 4, 6]
            assert batcher.held_items == 4
        assert batcher.held_items == 0


async def test_a_stream_waits_until_half_of_the_lane_is_free() -> None:
    model = Doubler()
    async with started(model, max_queue_items=4) as batcher:

        async def come(lane: Lane = Lane.BULK) -> None:
            with await batcher.admit_when_room(lane, size_bytes=1):
                await asyncio.sleep(0)

        await asyncio.wait_for(come(), 30)
        first = await hold(model, batcher)
        second = put(batcher, 1)
        await until(lambda: batcher.queued_items == 1)
        waiting = [asyncio.create_task(come()) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        waiting.pop(0).cancel()
        await asyncio.wait_for(come(Lane.INTERACTIVE), 30)
        model.free.set()
        await asyncio.wait_for(asyncio.gather(first, second, *waiting), 30)


async def test_streams_that_wait_for_room_never_overfill_a_lane() -> None:
    model = Doubler()
    most = 0

    async with started(model, max_queue_items=6) as batcher:

        async def stream_item(item: int) -> int:
            nonlocal most
            with await batcher.admit_when_room(Lane.BULK, size_bytes=1) as reservation:
                most = max(most, batcher.held_items)
                await asyncio.sleep(0)
                return (await submit(batcher, item, lane=Lane.BULK, size_bytes=1, reservation=reservation)).value

        values = await asyncio.wait_for(asyncio.gather(*(stream_item(item) for item in range(200))), 30)
    assert values == [item * 2 for item in range(200)]
    assert 1 <= most <= 4


async def test_cancelling_takes_an_item_out_of_the_queue() -> None:
    model = Doubler()
    async with started(model) as batcher:
        first = await hold(model, batcher)
        tasks = [put(batcher, item) for item in range(1, 6)]
        await until(lambda: batcher.queued_items == 5)
        for task in tasks[::2]:
            task.cancel()
        await until(lambda: batcher.queued_items == 2)
        assert batcher.held_items == 3
        model.free.set()
        await asyncio.gather(first, *tasks, return_exceptions=True)
    assert model.batches == [[0], [2, 4]]


async def test_cancelling_what_the_device_works_on_disturbs_nobody() -> None:
    model = Doubler()
    async with started(model) as batcher:
        first = await hold(model, batcher)
        other = put(batcher, 3)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        model.free.set()
        assert (await other).value == 6
        assert batcher.held_items == 0


async def test_a_late_item_never_reaches_the_device() -> None:
    model = Doubler()
    async with started(model) as batcher:
        first = await hold(model, batcher)
        now = asyncio.get_running_loop().time()
        late, early = put(batcher, 1, deadline=now + 0.01), put(batcher, 2, deadline=now + 3600)
        await until(lambda: asyncio.get_running_loop().time() > now + 0.02)
        model.free.set()
        with pytest.raises(DeadlineExceeded):
            await late
        assert (await early).value == 4
        await first
    assert model.batches == [[0], [2]]


@pytest.mark.parametrize("poison", range(8))
async def test_a_failing_batch_is_halved_until_the_poison_is_alone(poison: int) -> None:
    model = Doubler()
    model.poison = {poison}
    async with started(model, max_batch=8) as batcher:
        answers = await asyncio.gather(*(put(batcher, item) for item in range(8)), return_exceptions=True)
    for item, answer in enumerate(answers):
        if item == poison:
            assert isinstance(answer, InternalFault)
            assert answer.reason is Reason.MODEL_FAILED
            assert "secret" not in answer.message
        else:
            assert isinstance(answer, ItemOutput)
            assert answer.value == item * 2


async def test_the_loop_survives_a_model_that_always_fails_and_one_that_forgets_answers() -> None:
    model = Doubler()
    model.poison = {1, 2}
    async with started(model) as batcher:
        failed = await asyncio.gather(put(batcher, 1), put(batcher, 2), return_exceptions=True)
        assert [type(answer) for answer in failed] == [InternalFault, InternalFault]
        model.short = True
        with pytest.raises(InternalFault):
            await put(batcher, 3)
        model.short = False
        assert (await put(batcher, 4)).value == 8
        assert batcher.held_items == 0


async def test_an_output_that_is_an_error_fails_its_own_item() -> None:
    model = Doubler()
    model.bad = {2}
    async with started(model) as batcher:
        answers = await asyncio.gather(*(put(batcher, item) for item in (1, 2, 3)), return_exceptions=True)
    assert isinstance(answers[1], InvalidInput)
    assert [answer.value for answer in answers if isinstance(answer, ItemOutput)] == [2, 6]
    assert len(model.batches) == 1


async def test_stopping_finishes_the_batch_and_fails_what_is_queued() -> None:
    model = Doubler()
    async with started(model) as batcher:
        first = await hold(model, batcher)
        queued = put(batcher, 1)
        await until(lambda: batcher.queued_items == 1)
        stopping = asyncio.create_task(batcher.stop())
        await asyncio.sleep(0)
        model.free.set()
        await stopping
        assert (await first).value == 0
        with pytest.raises(Unavailable):
            await queued
        with pytest.raises(Unavailable):
            await put(batcher, 2)


async def test_the_event_loop_stays_free_while_the_device_works() -> None:
    model = Doubler()
    async with started(model) as batcher:
        first = await hold(model, batcher)
        turns = 0
        for _ in range(100):
            await asyncio.sleep(0)
            turns += 1
        assert turns == 100
        assert not first.done()
        model.free.set()
        await first
