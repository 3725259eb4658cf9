"""Items ride together when calls are busy, at once when they are not, and leave when nobody waits."""

import asyncio
import gc
from collections.abc import Sequence

import pytest

from router_svc.micro_batcher import MicroBatcher, let_go
from tests.support.waiting import until


class Calls:
    """A batch call that is held back until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.open = asyncio.Event()
        self.cancelled = 0
        self.running = 0
        self.most = 0

    async def run(self, batch: Sequence[str]) -> list[str]:
        self.batches.append(list(batch))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        if "poison" in batch:
            raise ValueError("poison")
        return [item.upper() for item in batch]

    def batcher(
        self, max_items: int = 4, max_bytes: int = 100, max_calls: int = 1, eager_calls: int = 0
    ) -> MicroBatcher[str, str]:
        return MicroBatcher(
            self.run,
            size_of=len,
            max_items=max_items,
            max_bytes=max_bytes,
            max_calls=max_calls,
            eager_calls=eager_calls,
        )


async def test_an_idle_call_takes_what_is_there_and_a_busy_one_gathers() -> None:
    calls = Calls()
    batcher = calls.batcher()
    first = asyncio.create_task(batcher.submit("a"))
    await until(lambda: calls.batches == [["a"]], "the first goes alone")
    rest = [asyncio.create_task(batcher.submit(name)) for name in "bcdefg"]
    await asyncio.sleep(0)
    calls.open.set()
    assert await asyncio.gather(first, *rest) == list("ABCDEFG")
    assert calls.batches == [["a"], ["b", "c", "d", "e"], ["f", "g"]]


async def test_items_that_come_together_ride_together() -> None:
    calls = Calls()
    calls.open.set()
    batcher = calls.batcher()
    await asyncio.gather(*(batcher.submit(name) for name in "abc"))
    assert calls.batches == [["a", "b", "c"]]


async def test_bytes_bound_a_batch_and_a_large_item_goes_alone() -> None:
    calls = Calls()
    calls.open.set()
    batcher = calls.batcher(max_bytes=10)
    await asyncio.gather(*(batcher.submit(name) for name in ("a" * 6, "b" * 6, "c" * 4, "d" * 50, "e")))
    assert [[len(item) for item in batch] for batch in calls.batches] == [[6], [6, 4], [50], [1]]


async def test_calls_at_a_time_are_bounded() -> None:
    calls = Calls()
    batcher = calls.batcher(max_items=1, max_calls=3, eager_calls=5)
    tasks = [asyncio.create_task(batcher.submit(str(number))) for number in range(10)]
    await until(lambda: calls.running == 3, "three run")
    calls.open.set()
    await asyncio.gather(*tasks)
    assert calls.most == 3


async def test_beside_an_eager_call_only_full_ones_begin() -> None:
    calls = Calls()
    batcher = calls.batcher(max_items=3, max_bytes=10, max_calls=3, eager_calls=1)
    answers = [batcher.enqueue("a")]
    await until(lambda: calls.batches == [["a"]], "the first goes alone")
    answers += map(batcher.enqueue, "bc")
    await asyncio.sleep(0)
    assert calls.running == 1, "two wait for a third, or for the end of the first"
    answers += map(batcher.enqueue, "de")
    await until(lambda: calls.batches[1:] == [["b", "c", "d"]], "three are as many as a call takes")
    answers.append(batcher.enqueue("f" * 9))
    await until(lambda: calls.batches[2:] == [["e", "f" * 9]], "and so are ten bytes")
    answers += map(batcher.enqueue, "ghi")
    await asyncio.sleep(0)
    assert calls.most == 3, "there are no more calls than may be"
    calls.open.set()
    await asyncio.gather(*answers)
    assert calls.batches[3:] == [["g", "h", "i"]]


async def test_what_nobody_waits_for_leaves_the_queue_and_ends_its_call() -> None:
    calls = Calls()
    batcher = calls.batcher(max_items=2)
    running = [asyncio.create_task(batcher.submit(name)) for name in "ab"]
    await until(lambda: calls.running == 1, "it runs")
    waiting = [asyncio.create_task(batcher.submit(name)) for name in "cd"]
    await asyncio.sleep(0)
    waiting[0].cancel()
    running[0].cancel()
    await asyncio.sleep(0.05)
    assert calls.cancelled == 0, "somebody waits for the other item of the call"
    running[1].cancel()
    await until(lambda: calls.cancelled == 1, "the call ends")
    calls.open.set()
    assert await waiting[1] == "D"
    assert calls.batches == [["a", "b"], ["d"]]


async def test_a_failed_call_fails_its_items_only() -> None:
    calls = Calls()
    calls.open.set()
    batcher = calls.batcher(max_items=2)
    results = await asyncio.gather(
        *(batcher.submit(name) for name in ("a", "poison", "b", "c")), return_exceptions=True
    )
    assert [type(result) for result in results] == [ValueError, ValueError, str, str]


async def test_closing_ends_everything() -> None:
    calls = Calls()
    batcher = calls.batcher(max_items=1)
    tasks = [asyncio.create_task(batcher.submit(name)) for name in "ab"]
    await until(lambda: calls.running == 1, "one runs")
    await batcher.close()
    assert calls.cancelled == 1
    for task in tasks:
        with pytest.raises(asyncio.CancelledError):
            await task
    assert calls.batches == [["a"]]


async def test_an_item_is_in_line_without_a_task_and_can_be_withdrawn() -> None:
    calls = Calls()
    batcher = calls.batcher(max_items=2)
    running, beside = batcher.enqueue("a"), batcher.enqueue("b")
    withdrawn, kept = batcher.enqueue("c"), batcher.enqueue("d")
    await until(lambda: calls.running == 1, "it runs")
    let_go([withdrawn, beside])
    calls.open.set()
    assert (await running, await kept) == ("A", "D")
    assert withdrawn.cancelled()
    assert beside.cancelled()
    assert calls.batches == [["a", "b"], ["d"]]


async def test_nobody_complains_of_an_error_that_is_let_go() -> None:
    said: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    calls = Calls()
    calls.open.set()
    answer = calls.batcher().enqueue("poison")
    await asyncio.wait({answer})
    let_go([answer])
    del answer
    gc.collect()
    assert said == []
