"""Who is let in: by predicted wait, by deadline; streams wait instead. In virtual time."""

from __future__ import annotations

import asyncio

import pytest

from lensmesh_chassis.errors import DeadlineExceeded, Overloaded
from lensmesh_inference.batching.batcher import Batcher, Lane
from tests.inference.batching.asking import coming
from tests.inference.batching.virtual import Item, Model, put, run

# Of the models here: a batch of one takes 1.5 s, one of four 3 s.


async def warmed(batcher: Batcher[Item, int], *sizes: int) -> None:
    """Started, with batches of these sizes run often enough for each device to be warm."""
    await batcher.start()
    for size in sizes or (1, 4):
        for _ in range(4):
            await asyncio.gather(*(put(batcher, Item(number)) for number in range(size)))


def test_the_wait_counts_what_runs_and_what_is_queued_and_each_lane_its_own() -> None:
    async def scenario() -> None:
        batcher = Model().batcher()
        await warmed(batcher)
        assert batcher.wait_s(Lane.BULK) == 0
        running = [put(batcher, Item(number)) for number in range(4)]
        await asyncio.sleep(1)
        assert batcher.wait_s(Lane.INTERACTIVE) == pytest.approx(2)
        queued = [put(batcher, Item(number)) for number in range(4, 9)]
        queued += [put(batcher, Item(number, Lane.INTERACTIVE, group=1)) for number in (9, 10)]
        await asyncio.sleep(0)
        # The rest of what runs, and two items of a group that is not known yet: fixed, and twice an average item's.
        assert batcher.wait_s(Lane.INTERACTIVE) == pytest.approx(2 + 1 + 2 * 0.5)
        # The five bulk items in two batches as well.
        assert batcher.wait_s(Lane.BULK) == pytest.approx(2 + 2 + 2 * 1 + 5 * 0.5)
        assert batcher.expected_wait_s == batcher.wait_s(Lane.BULK)
        await asyncio.gather(*running, *queued)
        assert batcher.wait_s(Lane.BULK) == 0
        await batcher.stop()

    run(scenario())


def test_items_being_prepared_are_ahead_of_who_comes_later() -> None:
    async def scenario() -> None:
        batcher = Model().batcher()
        await warmed(batcher)
        with coming(batcher, Lane.BULK, 0), coming(batcher, Lane.BULK, 0):
            assert batcher.wait_s(Lane.BULK) == pytest.approx(2)
            assert batcher.wait_s(Lane.INTERACTIVE) == 0
        assert batcher.wait_s(Lane.BULK) == 0
        await batcher.stop()

    run(scenario())


def test_devices_share_what_is_queued_as_they_become_free() -> None:
    async def scenario() -> None:
        batcher = Model(workers=2).batcher()
        await warmed(batcher)
        tasks = [put(batcher, Item(number)) for number in range(4)]
        await asyncio.sleep(1)
        # One device is busy for two seconds more, the other one is free.
        assert batcher.wait_s(Lane.BULK) == 0
        tasks += [put(batcher, Item(number)) for number in range(4, 8)]
        await asyncio.sleep(0.5)
        # Busy for 1.5 and 2.5 seconds more; the first to be free would take what is queued, for 3.
        assert batcher.wait_s(Lane.BULK) == pytest.approx(1.5)
        tasks += [put(batcher, Item(number)) for number in range(8, 12)]
        await asyncio.sleep(0)
        assert batcher.wait_s(Lane.BULK) == pytest.approx(1.5 + 1 + (3 - 1) / 2)
        await asyncio.gather(*tasks)
        await batcher.stop()

    run(scenario())


def test_a_call_that_would_wait_too_long_is_refused_with_the_wait() -> None:
    async def scenario() -> None:
        batcher = Model().batcher(max_wait_s=5.5)
        await warmed(batcher)
        tasks = [put(batcher, Item(number)) for number in range(4)]
        await asyncio.sleep(1)
        tasks += [put(batcher, Item(number)) for number in range(4, 8)]
        await asyncio.sleep(0)
        with batcher.admit(Lane.BULK, items=1, size_bytes=1):
            pass
        tasks += [put(batcher, Item(8))]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match=r"predicted wait for fake is 6\.5 s, the limit is 5\.5 s") as caught:
            batcher.admit(Lane.BULK, items=1, size_bytes=1)
        assert caught.value.retry_after_s == pytest.approx(6.5)
        assert caught.value.metadata == {
            "predicted_wait_seconds": "6.500",
            "max_wait_seconds": "5.5",
            "queued_items": "9",
            "queued_bytes": "9",
        }
        # Nobody waits in the other lane but for what runs.
        with batcher.admit(Lane.INTERACTIVE, items=1, size_bytes=1):
            pass
        await asyncio.gather(*tasks)
        with batcher.admit(Lane.BULK, items=1, size_bytes=1):
            pass
        await batcher.stop()

    run(scenario())


def test_there_is_plenty_as_long_as_each_of_the_items_would_be_let_in() -> None:
    async def scenario() -> None:
        batcher = Model().batcher(max_wait_s=20)
        await warmed(batcher)
        # At most 1.5 s each, and streams have half of the wait.
        assert batcher.has_plenty(Lane.BULK, 0, 6)
        assert not batcher.has_plenty(Lane.BULK, 0, 7)
        running = [put(batcher, Item(number)) for number in range(4)]
        await asyncio.sleep(0)
        assert batcher.has_plenty(Lane.BULK, 0, 4)
        assert not batcher.has_plenty(Lane.BULK, 0, 5)
        reservation = await batcher.admit_when_room(Lane.BULK, size_bytes=1)
        assert reservation.grow(1, plenty=True)
        assert reservation.grow(1)
        reservation.release()
        await asyncio.gather(*running)
        assert batcher.held_items == 0
        await batcher.stop()

    run(scenario())


def test_a_call_whose_deadline_comes_before_its_turn_is_refused() -> None:
    async def scenario() -> None:
        batcher = Model().batcher()
        await warmed(batcher)
        first = put(batcher, Item(1))
        await asyncio.sleep(0.5)
        now = asyncio.get_running_loop().time()
        with batcher.admit(Lane.INTERACTIVE, items=1, size_bytes=1, deadline=now + 1.25):
            pass
        with pytest.raises(Overloaded, match=r"deadline is in 0\.75 s") as caught:
            batcher.admit(Lane.INTERACTIVE, items=1, size_bytes=1, deadline=now + 0.75)
        assert caught.value.retry_after_s == pytest.approx(1)
        assert caught.value.metadata["deadline_seconds"] == "0.750"
        await first
        await batcher.stop()

    run(scenario())


def test_an_idle_device_lets_everybody_in_whatever_is_predicted() -> None:
    async def scenario() -> None:
        batcher = Model(fixed_s=100).batcher(max_wait_s=0.001)
        await warmed(batcher, 1)
        now = asyncio.get_running_loop().time()
        with batcher.admit(Lane.BULK, items=50, size_bytes=50, deadline=now + 0.001):
            assert batcher.held_items == 50
        await batcher.stop()

    run(scenario())


def test_what_cannot_be_met_even_by_the_fastest_batch_so_far_never_reaches_the_device() -> None:
    async def scenario() -> None:
        model = Model()
        batcher = model.batcher()
        await warmed(batcher, 1)
        batches = len(model.batches)
        now = asyncio.get_running_loop().time()
        with pytest.raises(DeadlineExceeded, match="cannot be met"):
            await put(batcher, Item(1), deadline=now + 1.4)
        assert await put(batcher, Item(2), deadline=now + 1.6) == 4
        assert len(model.batches) == batches + 1
        await batcher.stop()

    run(scenario())


def test_streams_are_read_no_further_from_half_of_the_wait_and_go_on_in_their_order() -> None:
    async def scenario() -> None:
        batcher = Model().batcher(max_wait_s=10)
        await warmed(batcher)
        most_s = 0.0
        answered: list[int] = []

        async def stream_item(number: int) -> None:
            nonlocal most_s
            with await batcher.admit_when_room(Lane.BULK, size_bytes=1) as reservation:
                most_s = max(most_s, batcher.wait_s(Lane.BULK))
                await put(batcher, Item(number), reservation=reservation)
                answered.append(number)

        await asyncio.gather(*(stream_item(number) for number in range(60)))
        assert answered == list(range(60))
        # Half of the limit, and what one item may add to it.
        assert 3 < most_s < 5 + 1.5
        await batcher.stop()

    run(scenario())


def test_a_large_item_of_a_stream_waits_until_it_fits() -> None:
    async def scenario() -> None:
        batcher = Model().batcher(max_queue_bytes=10)
        await batcher.start()
        small = put(batcher, Item(1))
        await asyncio.sleep(0)
        with await batcher.admit_when_room(Lane.BULK, size_bytes=10):
            assert small.done()
        await batcher.stop()

    run(scenario())


def test_a_stream_is_never_refused_for_what_others_wait_for() -> None:
    async def scenario() -> None:
        batcher = Model().batcher(max_wait_s=5)
        await warmed(batcher)
        call = batcher.admit(Lane.INTERACTIVE, items=8, size_bytes=8)
        interactive = [put(batcher, Item(number, Lane.INTERACTIVE), reservation=call) for number in range(8)]
        await asyncio.sleep(0)
        assert batcher.wait_s(Lane.BULK) > 5
        with pytest.raises(Overloaded):
            batcher.admit(Lane.BULK, items=1, size_bytes=1)
        with await batcher.admit_when_room(Lane.BULK, size_bytes=1) as reservation:
            assert await put(batcher, Item(9), reservation=reservation) == 18
        await asyncio.gather(*interactive)
        call.release()
        await batcher.stop()

    run(scenario())
