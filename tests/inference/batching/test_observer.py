"""A batcher tells its observer what happens, each thing once."""

import asyncio
from collections.abc import Sequence

import pytest

from lensmesh_chassis.errors import DeadlineExceeded, InternalFault, Overloaded
from lensmesh_inference.batching.batcher import Batcher, Lane
from lensmesh_inference.batching.observer import Exemplar
from lensmesh_inference.options import BatchingOptions
from tests.inference.batching.asking import submit


class Recorder:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.seconds: list[float] = []

    def prepared(self, seconds: float, exemplar: Exemplar | None = None) -> None:
        self.told.append(("prepared",))

    def computed(self, items: int, seconds: float, exemplar: Exemplar | None = None) -> None:
        self.told.append(("computed", items))
        self.seconds.append(seconds)

    def waited(self, lane: Lane, seconds: float, exemplar: Exemplar | None = None) -> None:
        self.told.append(("waited", lane))
        self.seconds.append(seconds)

    def batch_failed(self) -> None:
        self.told.append(("batch_failed",))

    def poisoned(self) -> None:
        self.told.append(("poisoned",))

    def refused(self, lane: Lane) -> None:
        self.told.append(("refused", lane))

    def late(self, lane: Lane, items: int) -> None:
        self.told.append(("late", lane, items))

    def out_of_memory(self) -> None:
        self.told.append(("out_of_memory",))


def negative_is_poison(batch: Sequence[int]) -> Sequence[int]:
    if any(item < 0 for item in batch):
        raise RuntimeError("poison")
    return [2 * item for item in batch]


def batcher(recorder: Recorder, *, max_queue_items: int = 8) -> Batcher[int, int]:
    return Batcher(
        [negative_is_poison],
        name="doubler",
        options=BatchingOptions(max_batch=8, max_queue_items=max_queue_items, max_queue_bytes=1000),
        observer=recorder,
    )


async def test_a_batch_is_told() -> None:
    recorder = Recorder()
    one = batcher(recorder)
    lanes = [Lane.INTERACTIVE, Lane.BULK, Lane.BULK]
    waiting = [asyncio.create_task(submit(one, 1, lane=lane, size_bytes=10)) for lane in lanes]
    await asyncio.sleep(0)
    assert list(one.lane_depths()) == [("interactive", 1, 1, 10), ("bulk", 2, 2, 20)]
    assert one.limits() == (8, 1000)
    assert one.running_s == 0
    await one.start()
    await asyncio.gather(*waiting)
    await one.stop()
    assert recorder.told == [("computed", 3)]
    assert all(seconds >= 0 for seconds in recorder.seconds)
    assert list(one.lane_depths()) == [("interactive", 0, 0, 0), ("bulk", 0, 0, 0)]


async def test_a_poison_item_is_told_once_and_each_failed_batch() -> None:
    recorder = Recorder()
    one = batcher(recorder)
    waiting = [asyncio.create_task(submit(one, item, lane=Lane.BULK, size_bytes=1)) for item in (1, -1, 3, 4)]
    await asyncio.sleep(0)
    await one.start()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    await one.stop()
    assert isinstance(outcomes[1], InternalFault)
    told = [event[0] for event in recorder.told]
    assert told.count("poisoned") == 1
    assert told.count("batch_failed") == 2
    assert sum(int(str(event[1])) for event in recorder.told if event[0] == "computed") == 3


async def test_refusals_are_told_for_a_call_and_for_a_single_item() -> None:
    recorder = Recorder()
    one = batcher(recorder, max_queue_items=1)
    with one.admit(Lane.INTERACTIVE, items=1, size_bytes=1):
        with pytest.raises(Overloaded):
            one.admit(Lane.INTERACTIVE, items=1, size_bytes=1)
        with pytest.raises(Overloaded):
            await submit(one, 1, lane=Lane.INTERACTIVE, size_bytes=1)
    assert recorder.told == [("refused", Lane.INTERACTIVE)] * 2


async def test_late_items_are_told_with_their_lane() -> None:
    recorder = Recorder()
    one = batcher(recorder)
    past = asyncio.get_running_loop().time() - 1
    waiting = [asyncio.create_task(submit(one, 1, lane=Lane.BULK, size_bytes=1, deadline=past)) for _ in range(2)]
    await asyncio.sleep(0)
    await one.start()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    await one.stop()
    assert all(isinstance(outcome, DeadlineExceeded) for outcome in outcomes)
    assert recorder.told == [("late", Lane.BULK, 2)]


async def test_a_batch_in_the_device_is_seen_while_it_runs() -> None:
    entered, leave = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(batch: Sequence[int]) -> Sequence[int]:
        loop.call_soon_threadsafe(entered.set)
        asyncio.run_coroutine_threadsafe(leave.wait(), loop).result(60)
        return batch

    one: Batcher[int, int] = Batcher(
        [slow], name="slow", options=BatchingOptions(max_batch=1, max_queue_items=8, max_queue_bytes=8)
    )
    await one.start()
    waiting = asyncio.create_task(submit(one, 1, lane=Lane.BULK, size_bytes=1))
    await asyncio.wait_for(entered.wait(), 60)
    assert one.running_s > 0
    leave.set()
    await waiting
    assert one.running_s == 0
    assert one.expected_wait_s == 0
    await one.stop()
