"""A batcher in virtual time: nothing sleeps, every run of a schedule is the same."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lensmesh_chassis.errors import InvalidInput, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.batching.batcher import Batcher, Lane
from lensmesh_inference.batching.faults import DeviceLost, OutOfMemory
from lensmesh_inference.options import BatchingOptions
from tests.inference.batching.asking import submit

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Lets time jump to the next timer instead of waiting for it."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            # No timer and nothing ready: only a real thread can still do something, as at the end of a test.
            ready = super().select(20)
            assert ready, "everybody waits for something that will never happen"
        elif timeout > 0:
            self.now += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.virtual = _Selector()
        super().__init__(self.virtual)

    def time(self) -> float:
        return self.virtual.now


def run(scenario: Coroutine[Any, Any, T]) -> T:
    """What the scenario returns, in virtual time from 0 on."""
    loop = _Loop()
    try:
        return loop.run_until_complete(scenario)
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.close()


class Clock:
    """The loop's time, and what a worker spent since it began."""

    spent = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.spent


class _Thread:
    """Calls at once, and gives the outcome when the time that was spent has passed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - as a thread does
            loop.call_later(self._clock.spent, outcome.set_exception, error)
        else:
            loop.call_later(self._clock.spent, outcome.set_result, result)
        self._clock.spent = 0.0
        return outcome

    def end(self) -> None: ...

    def join(self) -> None: ...


@dataclass(frozen=True)
class Item:
    """What the fake model takes; its output is its number, doubled."""

    number: int
    lane: Lane = Lane.BULK
    group: int = 0
    poison: bool = False
    bad: bool = False
    """Fails by itself, without breaking the batch."""
    size: int = 1
    """Of the device's memory."""


@dataclass
class Batch:
    """One call of a worker, and what was queued as it began."""

    worker: int
    started: float
    items: list[Item]
    seconds: float = 0.0
    done: bool = False
    interactive_left: int = 0
    bulk_left: int = 0

    @property
    def numbers(self) -> list[int]:
        return [item.number for item in self.items]


@dataclass
class Model:
    """Workers that double numbers, with a device's faults."""

    workers: int = 1
    fixed_s: float = 1.0
    per_item_s: float = 0.5
    memory: float = float("inf")
    lost_at: dict[int, int] = field(default_factory=dict)
    """Of workers: in which of their batches, counted from 0, the device is lost."""
    batches: list[Batch] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)
    watch: Callable[[Batch], None] = lambda batch: None

    def batcher(self, **limits: Any) -> Batcher[Item, int]:
        """A batcher over these workers."""
        more = {key: limits.pop(key) for key in ("cost_group", "observer") if key in limits}
        options = {"max_batch": 4, "max_queue_items": 100, "max_queue_bytes": 1000, **limits}
        batcher: Batcher[Item, int] = Batcher(
            [self._worker(number) for number in range(self.workers)],
            clock=self.clock,
            thread=lambda name: _Thread(self.clock),
            name="fake",
            options=BatchingOptions(**options),
            **more,
        )
        self._batcher = batcher
        return batcher

    def seconds(self, items: int) -> float:
        """What so many take."""
        return self.fixed_s + self.per_item_s * items

    @property
    def sets(self) -> list[list[int]]:
        """The numbers of each batch so far."""
        return [batch.numbers for batch in self.batches]

    def _worker(self, worker: int) -> Callable[[Sequence[Item]], Sequence[int | LensmeshError]]:
        def work(items: Sequence[Item]) -> Sequence[int | LensmeshError]:
            calls = sum(batch.worker == worker for batch in self.batches)
            batch = Batch(worker, self.clock(), list(items))
            batch.interactive_left = self._batcher.queued_in(Lane.INTERACTIVE)
            batch.bulk_left = self._batcher.queued_in(Lane.BULK)
            self.batches.append(batch)
            self.watch(batch)
            batch.seconds = self.seconds(len(items))
            self.clock.spent += batch.seconds
            if calls == self.lost_at.get(worker):
                raise DeviceLost("unplugged")
            if sum(item.size for item in items) > self.memory:
                raise OutOfMemory("too much at once")
            if any(item.poison for item in items):
                raise ValueError("secret words of the model")
            batch.done = True
            return [InvalidInput(Reason.OPTION_INVALID, "bad") if item.bad else 2 * item.number for item in items]

        return work


def put(batcher: Batcher[Item, int], item: Item, **more: Any) -> asyncio.Task[int]:
    """Submit one item, as its lane says."""

    async def value() -> int:
        answer = await submit(
            batcher, item, lane=item.lane, size_bytes=more.pop("size_bytes", 1), group=item.group, **more
        )
        return answer.value

    return asyncio.create_task(value())
