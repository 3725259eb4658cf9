"""Several devices, out of memory, lost devices, and what the watchdog reads of them. In virtual time."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence

import pytest

from lensmesh_chassis.errors import InternalFault, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.batching.batcher import Batcher, Lane
from lensmesh_inference.batching.devices import GROW_AFTER
from lensmesh_inference.options import BatchingOptions
from tests.inference.batching.asking import submit
from tests.inference.batching.virtual import Item, Model, put, run


async def together(batcher: Batcher[Item, int], *items: Item) -> list[int | BaseException]:
    return await asyncio.gather(*(put(batcher, item) for item in items), return_exceptions=True)


def test_two_devices_share_one_queue() -> None:
    async def scenario() -> None:
        batcher = model.batcher()
        await batcher.start()
        await together(batcher, *(Item(number) for number in range(16)))
        await batcher.stop()

    model = Model(workers=2)
    run(scenario())
    assert [batch.worker for batch in model.batches] == [0, 1, 0, 1]
    assert [batch.started for batch in model.batches] == [0, 0, 3, 3]
    assert model.sets == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]


def test_out_of_memory_halves_the_batches_of_that_device_until_many_have_fitted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        batcher = model.batcher(max_batch=8)
        await batcher.start()
        assert await together(batcher, *(Item(number) for number in range(8))) == [2 * number for number in range(8)]
        assert model.sets == [list(range(8)), [0, 1, 2, 3], [0, 1], [2, 3], [4, 5], [6, 7]]
        assert batcher.batch_limit == 2
        model.memory = 100
        limits: list[int] = []
        for number in range(2 * GROW_AFTER):
            await together(batcher, Item(number))
            limits.append(batcher.batch_limit)
        # The last four of the batches before had fitted already.
        assert limits.index(4) == GROW_AFTER - 1 - 4
        assert limits.index(8) == 2 * GROW_AFTER - 1 - 4
        await batcher.stop()

    model = Model(memory=3)
    run(scenario())
    told = [record.message for record in caplog.records if "ran out" in record.message]
    assert told == ["batch-fake-0 ran out of memory on a batch of 8: smaller ones from now on"]
    assert "batch-fake-0 takes batches of 8 again" in caplog.messages


def test_an_item_that_does_not_fit_alone_is_not_to_be_sent_again() -> None:
    async def scenario() -> None:
        batcher = model.batcher()
        await batcher.start()
        good, large = await together(batcher, Item(1), Item(2, size=9))
        assert good == 2
        assert isinstance(large, InternalFault)
        assert large.reason is Reason.OUT_OF_MEMORY
        assert large.retry_after_s is None
        await batcher.stop()

    model = Model(memory=3)
    run(scenario())


def test_a_lost_device_leaves_the_others_serving_and_the_last_one_says_so() -> None:
    async def scenario() -> None:
        batcher = model.batcher()
        await batcher.start()
        answers = asyncio.gather(*(put(batcher, Item(number)) for number in range(12)))
        assert await answers == [2 * number for number in range(12)]
        assert (batcher.devices, batcher.lost, batcher.batch_limit) == (1, False, 4)
        # What was in the lost device went before what had come later.
        assert model.sets == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3], [8, 9, 10, 11]]
        outcomes = await together(batcher, *(Item(number) for number in range(8)))
        assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
        assert (batcher.devices, batcher.lost, batcher.batch_limit) == (0, True, 0)
        with pytest.raises(Unavailable, match="no device left"):
            batcher.admit(Lane.BULK, items=1, size_bytes=1)
        await batcher.stop()

    model = Model(workers=2, lost_at={0: 0, 1: 3})
    run(scenario())


def test_what_was_in_two_lost_devices_is_not_given_to_a_third() -> None:
    async def scenario() -> None:
        batcher = model.batcher()
        await batcher.start()
        [killer] = await together(batcher, Item(0))
        assert isinstance(killer, InternalFault)
        assert batcher.devices == 1
        assert await together(batcher, Item(1)) == [2]
        await batcher.stop()

    model = Model(workers=3, lost_at={0: 0, 1: 0})
    run(scenario())


@pytest.mark.parametrize(
    "way_out", [StopIteration, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError]
)
def test_no_exception_of_a_model_ends_the_loop(way_out: type[BaseException]) -> None:
    def leave(items: Sequence[int]) -> Sequence[int]:
        if 0 in items:
            raise way_out
        return items

    async def scenario() -> None:
        batcher: Batcher[int, int] = Batcher(
            [leave], name="x", options=BatchingOptions(max_batch=4, max_queue_items=9, max_queue_bytes=9)
        )
        await batcher.start()
        with pytest.raises(InternalFault):
            await submit(batcher, 0, lane=Lane.BULK, size_bytes=1)
        assert (await submit(batcher, 1, lane=Lane.BULK, size_bytes=1)).value == 1
        await batcher.stop()

    asyncio.run(scenario())


async def test_the_watchdog_reads_what_runs_and_in_which_thread() -> None:
    inside, leave = threading.Event(), threading.Event()
    threads: list[int] = []

    def slow(items: Sequence[int]) -> Sequence[int]:
        threads.append(threading.get_ident())
        inside.set()
        assert leave.wait(60)
        return items

    options = BatchingOptions(max_batch=4, max_queue_items=9, max_queue_bytes=9)
    batcher: Batcher[int, int] = Batcher([slow], name="slow", options=options)
    await batcher.start()
    for known in (False, True):
        inside.clear()
        leave.clear()
        task = asyncio.create_task(submit(batcher, 1, lane=Lane.BULK, size_bytes=1))
        await asyncio.to_thread(inside.wait, 60)
        [running] = batcher.running()
        assert (running.what, running.thread) == ("a batch of 1 has been in the device", threads[-1])
        # The first of its kind may compile something.
        assert (running.predicted_s is not None, running.first) == (known, not known)
        leave.set()
        await task
        assert batcher.running() == []
    await batcher.stop()


def ask(batcher: Batcher[Item, int], number: int, device: int) -> asyncio.Task[int]:
    """A question to one device."""
    return put(batcher, Item(number, Lane.INTERACTIVE), device=device)


def test_a_question_goes_to_the_device_that_is_asked_before_all_else_and_alone() -> None:
    async def scenario() -> None:
        batcher = model.batcher()
        await batcher.start()
        items = [put(batcher, Item(number)) for number in range(16)]
        await asyncio.sleep(0.25)
        questions = [ask(batcher, 100 + device, device) for device in batcher.working]
        again = ask(batcher, 101, 1)
        assert [await question for question in (*questions, again)] == [200, 202, 202]
        await asyncio.gather(*items)
        # An idle device answers at once, and no other does although it is as idle.
        assert await ask(batcher, 102, 1) == 204
        await batcher.stop()

    model = Model(workers=2)
    run(scenario())
    asked = [(batch.worker, batch.numbers) for batch in model.batches if batch.numbers[0] >= 100]
    assert asked == [(0, [100]), (1, [101]), (1, [101]), (1, [102])]
    assert [batch.started for batch in model.batches if batch.numbers == [100]] == [3]
    assert sorted(number for numbers in model.sets for number in numbers if number < 100) == list(range(16))


def test_a_question_to_a_lost_device_is_answered_by_another() -> None:
    async def scenario() -> None:
        batcher = model.batcher()
        await batcher.start()
        # The first is in the device as it is lost, the second waits for it, the third comes afterwards.
        first, second = ask(batcher, 0, 0), ask(batcher, 1, 0)
        assert (await first, await second) == (0, 2)
        assert batcher.working == [1]
        assert await ask(batcher, 2, 0) == 4
        await batcher.stop()

    model = Model(workers=2, lost_at={0: 0})
    run(scenario())
    assert {batch.worker for batch in model.batches if batch.done} == {1}


def test_questions_that_wait_leave_with_who_asks_and_with_the_batcher() -> None:
    async def scenario() -> None:
        batcher = model.batcher()
        await batcher.start()
        first = put(batcher, Item(0))
        await asyncio.sleep(0.25)
        gone, left = ask(batcher, 1, 0), ask(batcher, 2, 0)
        await asyncio.sleep(0.25)
        gone.cancel()
        stopping = asyncio.create_task(batcher.stop())
        outcomes = await asyncio.gather(first, gone, left, return_exceptions=True)
        assert isinstance(outcomes[1], asyncio.CancelledError)
        assert isinstance(outcomes[2], Unavailable)
        await stopping
        assert (outcomes[0], batcher.held_items) == (0, 0)

    model = Model()
    run(scenario())
    assert model.sets == [[0]]
