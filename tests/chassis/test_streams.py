"""The stream engine under stress: bounds, order, failure, draining, cancellation."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensmesh_chassis.errors import InvalidInput, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.streams import answer_as_ready, answer_chunks
from tests.support.waiting import until

pytestmark = pytest.mark.both_loops

FOREVER = 60.0


class Source:
    """Items 0 to count - 1, with a fault or a pause at the end; notes what was read and whether it was closed."""

    def __init__(self, count: int, *, fault: Exception | None = None, pause: bool = False) -> None:
        self.count, self.fault, self.pause = count, fault, pause
        self.read: list[int] = []
        self.closed = False

    async def items(self) -> AsyncIterator[int]:
        try:
            for number in range(self.count):
                await asyncio.sleep(0)
                self.read.append(number)
                yield number
            if self.pause:
                await asyncio.Event().wait()
            if self.fault is not None:
                raise self.fault
        finally:
            self.closed = True


class Work:
    """Answers items after as many turns of the loop as told; notes what ran at once and what was cancelled."""

    def __init__(self, turns: Callable[[int], int] = lambda _: 1, sizes: Callable[[int], int] = lambda _: 1) -> None:
        self.turns, self.sizes = turns, sizes
        self.running: set[int] = set()
        self.most_items = self.most_bytes = 0
        self.started: list[int] = []
        self.cancelled: list[int] = []
        self.faults: dict[int, BaseException] = {}
        self.hold: asyncio.Event | None = None

    async def answer(self, number: int) -> int:
        self.started.append(number)
        self.running.add(number)
        self.most_items = max(self.most_items, len(self.running))
        self.most_bytes = max(self.most_bytes, sum(map(self.sizes, self.running)))
        try:
            for _ in range(self.turns(number)):
                await asyncio.sleep(0)
            if self.hold is not None:
                await self.hold.wait()
            if number in self.faults:
                raise self.faults[number]
            return number
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        finally:
            self.running.discard(number)


def engine(source: Source, work: Work, **changes: Any) -> AsyncIterator[list[int]]:
    options: dict[str, Any] = {"max_items": 8, "max_bytes": 1000, "draining": asyncio.Event(), "size_of": work.sizes}
    return answer_as_ready(source.items(), work.answer, **(options | changes))


def run(check: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(FOREVER):
            await check

    asyncio.run(bounded())


async def collect(groups: AsyncIterator[list[int]], into: list[int], pause: float | None = None) -> None:
    async for group in groups:
        into += group
        if pause is not None:
            await asyncio.sleep(pause)


async def others_gone() -> None:
    """Only this task is left in the loop."""
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


plans = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40)), max_size=60)


@settings(deadline=None)
@given(plans, st.integers(1, 10), st.integers(1, 100), st.integers(1, 5))
def test_each_item_is_answered_once_within_the_bounds(
    plan: list[tuple[int, int]], max_items: int, max_bytes: int, max_group: int
) -> None:
    async def check() -> None:
        source = Source(len(plan))
        work = Work(lambda n: plan[n][0], lambda n: plan[n][1])
        groups = [
            group async for group in engine(source, work, max_items=max_items, max_bytes=max_bytes, max_group=max_group)
        ]
        assert Counter(n for group in groups for n in group) == Counter(range(len(plan)))
        assert all(1 <= len(group) <= max_group for group in groups)
        assert work.most_items <= max_items
        assert work.most_bytes < max_bytes + 41
        assert source.closed
        await others_gone()

    run(check())


@settings(deadline=None)
@given(plans, st.integers(1, 10), st.integers(0, 60), st.booleans())
def test_draining_answers_all_that_was_read(
    plan: list[tuple[int, int]], max_items: int, drain_after: int, slow_consumer: bool
) -> None:
    async def check() -> None:
        source, draining = Source(len(plan), pause=True), asyncio.Event()
        work = Work(lambda n: plan[n][0])
        answered: list[int] = []

        async def drain() -> None:
            for _ in range(drain_after):
                await asyncio.sleep(0)
            draining.set()

        task = asyncio.create_task(drain())
        groups = engine(source, work, max_items=max_items, draining=draining)
        with pytest.raises(Unavailable) as caught:
            await collect(groups, answered, 0.001 if slow_consumer else None)
        assert caught.value.reason is Reason.DRAINING
        assert sorted(answered) == sorted(work.started)
        assert source.closed
        await task
        await others_gone()

    run(check())


@settings(deadline=None)
@given(plans, st.integers(1, 10), st.integers(0, 200))
def test_cancelled_at_any_point_nothing_goes_on(plan: list[tuple[int, int]], max_items: int, turns: int) -> None:
    async def check() -> None:
        source, work = Source(len(plan), pause=True), Work(lambda n: plan[n][0])

        async def consume() -> None:
            async for _ in engine(source, work, max_items=max_items):
                await asyncio.sleep(0)

        task = asyncio.create_task(consume())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        await others_gone()
        assert not work.running

    run(check())


@settings(deadline=None)
@given(st.lists(plans, max_size=6), st.integers(1, 10), st.integers(1, 100), st.integers(1, 5))
def test_messages_are_cut_into_chunks_for_which_there_is_room(
    messages: list[list[tuple[int, int]]], max_items: int, max_bytes: int, max_group: int
) -> None:
    plan = [one for message in messages for one in message]
    work = Work(lambda n: plan[n][0], lambda n: plan[n][1])
    chunks: list[list[int]] = []

    async def read() -> AsyncIterator[Sequence[int]]:
        first = 0
        for message in messages:
            await asyncio.sleep(0)
            yield range(first, first + len(message))
            first += len(message)

    async def answer(chunk: Sequence[int], give: Callable[[int, int], None]) -> None:
        chunks.append(list(chunk))

        async def one(index: int, number: int) -> None:
            give(index, await work.answer(number))

        await asyncio.gather(*(one(index, number) for index, number in enumerate(chunk)))

    async def check() -> None:
        stream = answer_chunks(
            read(), answer, size_of=work.sizes, max_items=max_items, max_bytes=max_bytes, max_group=max_group,
            draining=asyncio.Event(),
        )  # fmt: skip
        groups = [group async for group in stream]
        assert Counter(n for group in groups for n in group) == Counter(range(len(plan)))
        assert all(1 <= len(group) <= max_group for group in groups)
        assert [number for chunk in chunks for number in chunk] == list(range(len(plan)))
        assert work.most_items <= max_items
        assert work.most_bytes < max_bytes + 41
        await others_gone()

    run(check())


async def test_a_message_for_which_there_is_room_is_one_chunk() -> None:
    chunks: list[Sequence[int]] = []

    async def read() -> AsyncIterator[Sequence[int]]:
        yield range(8)
        yield range(8, 20)

    async def answer(chunk: Sequence[int], give: Callable[[int, int], None]) -> None:
        chunks.append(chunk)
        for index, number in enumerate(chunk):
            give(index, number)

    stream = answer_chunks(read(), answer, size_of=lambda _: 1, max_items=8, max_bytes=100, draining=asyncio.Event())
    assert [number async for group in stream for number in group] == list(range(20))
    assert list(map(len, chunks)) == [8, 8, 4]


async def test_answers_come_in_the_order_they_are_ready() -> None:
    work = Work(lambda n: 100 if n == 0 else 1)
    answered = [n async for group in engine(Source(5), work) for n in group]
    assert answered[-1] == 0


async def test_a_consumer_that_takes_nothing_stops_the_reading() -> None:
    source, work = Source(1000), Work()
    groups = engine(source, work, max_items=8, max_group=4)
    first = await anext(groups)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert len(source.read) <= len(first) + 8
    answered = first + [n async for group in groups for n in group]
    assert sorted(answered) == list(range(1000))


async def test_one_item_above_the_byte_limit_passes_alone() -> None:
    work = Work(lambda _: 5, lambda _: 5000)
    assert [n async for group in engine(Source(3), work, max_bytes=1000) for n in group] == [0, 1, 2]
    assert work.most_items == 1


async def test_a_fault_of_the_source_comes_after_the_answers() -> None:
    source = Source(20, fault=InvalidInput(Reason.OPTIONS_REPEATED, "options stand in the first message"))
    answered: list[int] = []
    with pytest.raises(InvalidInput) as caught:
        await collect(engine(source, Work(lambda _: 7)), answered)
    assert caught.value.reason is Reason.OPTIONS_REPEATED
    assert sorted(answered) == list(range(20))


async def test_a_fault_of_the_work_comes_after_the_other_answers() -> None:
    source, work = Source(3, pause=True), Work(lambda n: 3 * n)
    work.faults[1] = RuntimeError("a bug")
    answered: list[int] = []
    with pytest.raises(RuntimeError, match="a bug"):
        await collect(engine(source, work), answered)
    assert answered == [0, 2]
    assert source.closed


async def test_a_cancellation_inside_the_work_is_no_lost_answer() -> None:
    work = Work()
    work.faults[2] = asyncio.CancelledError()
    answered: list[int] = []
    with pytest.raises(asyncio.CancelledError):
        await collect(engine(Source(4, pause=True), work), answered)
    assert sorted(answered) == [0, 1, 3]


async def test_draining_after_the_end_changes_nothing() -> None:
    draining, work = asyncio.Event(), Work()
    work.hold = asyncio.Event()
    source = Source(5)
    groups = engine(source, work, draining=draining)
    first = asyncio.ensure_future(anext(groups))
    await until(lambda: source.closed)
    draining.set()
    work.hold.set()
    assert sorted(await first + [n async for group in groups for n in group]) == list(range(5))


async def test_drained_from_the_start_nothing_is_read() -> None:
    draining, source = asyncio.Event(), Source(5, pause=True)
    draining.set()
    work = Work()
    answered: list[int] = []
    with pytest.raises(Unavailable):
        await collect(engine(source, work, draining=draining), answered)
    assert sorted(answered) == sorted(work.started)


async def test_leaving_early_cancels_the_rest() -> None:
    work = Work()
    work.hold = asyncio.Event()
    groups = engine(Source(1000), work, max_items=100)
    first = asyncio.ensure_future(anext(groups))
    await until(lambda: len(work.running) == 100)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert len(work.cancelled) == 100
    await others_gone()


async def test_an_empty_stream_ends() -> None:
    assert [group async for group in engine(Source(0), Work())] == []


@pytest.mark.parametrize("bounds", [{"max_items": 0}, {"max_bytes": 0}])
async def test_bounds_that_let_nothing_in_are_refused(bounds: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        await anext(engine(Source(1), Work(), **bounds))
