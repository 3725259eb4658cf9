"""Many callers' items, formed into batches for one device.

Two lanes, interactive before bulk, bulk never starved; both bounded in items and bytes. A batch holds one group only
(pictures or texts, one set of generation parameters). The batch is what is ready when the device becomes free: an
idle device starts at once, a busy one lets the next batch gather. What is cancelled or late leaves before the device
sees it. No torch, no gRPC.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from opentelemetry import context
from opentelemetry.context import Context

from lensmesh_chassis.errors import DeadlineExceeded, InternalFault, LensmeshError, Overloaded, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry import spans
from lensmesh_inference.batching.lanes import Entry, Lane, LaneQueue, Seat
from lensmesh_inference.batching.observer import BatchObserver, Unobserved
from lensmesh_inference.batching.running import Running
from lensmesh_inference.batching.tracing import Ride, batch_span

__all__ = ["Answer", "Batcher", "Lane", "Seat"]

In = TypeVar("In")
Out = TypeVar("Out")

# After so many interactive batches in a row, one bulk batch goes: bulk keeps a fifth of a device that is wanted by
# both.
INTERACTIVE_BATCHES_IN_A_ROW = 4

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer(Generic[Out]):
    """One item's output and where its time went."""

    value: Out
    queue_us: int
    compute_us: int
    batch_size: int


class Batcher(Generic[In, Out]):
    """One queue, and a thread for each of the `workers` that take batches from it.

    A worker gets up to `max_batch` items of one group and returns as many outputs, in order. An output that is an
    exception fails its own item. Each lane holds at most `max_queue_items` and `max_queue_bytes`. `observer` is told
    what happens, for whoever counts it.
    """

    def __init__(
        self,
        workers: Sequence[Callable[[Sequence[In]], Sequence[Out | LensmeshError]]],
        *,
        name: str,
        max_batch: int,
        max_queue_items: int,
        max_queue_bytes: int,
        observer: BatchObserver | None = None,
    ) -> None:
        self._workers = tuple(workers)
        self._name = name
        self._max_batch = max_batch
        self._limits = (max_queue_items, max_queue_bytes)
        self.observer = observer or Unobserved()
        self._lanes: dict[Lane, LaneQueue[In, Answer[Out]]] = {
            lane: LaneQueue(name, max_queue_items, max_queue_bytes) for lane in Lane
        }
        self._wake = asyncio.Event()
        self._interactive_in_a_row = 0
        self._item_seconds = 0.0
        self._running: dict[int, tuple[float, Running]] = {}
        self.batches = 0
        """Batches that the devices have been given so far."""
        self._threads: list[ThreadPoolExecutor] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        """Start the device thread. Items submitted before wait for it."""
        if self._tasks:
            return
        self._stopping = False
        for number in range(len(self._workers)):
            name = f"batch-{self._name}-{number}"
            self._threads.append(ThreadPoolExecutor(1, thread_name_prefix=name))
            self._tasks.append(asyncio.create_task(self._loop(number), name=name))

    async def stop(self) -> None:
        """Finish the batch in the thread, fail what is queued with ``Unavailable``, and end the thread."""
        self._stopping = True
        self._wake.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for thread in self._threads:
            await asyncio.to_thread(thread.shutdown)
        self._tasks, self._threads = [], []
        for lane in self._lanes.values():
            for entry in lane.clear():
                entry.fail(Unavailable(Reason.DRAINING, f"{self._name} stops: send it again."))

    @property
    def name(self) -> str:
        """The model's."""
        return self._name

    @property
    def queued_items(self) -> int:
        """Items that wait for the device, in both lanes."""
        return sum(lane.queued_items for lane in self._lanes.values())

    @property
    def held_items(self) -> int:
        """Items queued, in the device or promised a seat, in both lanes."""
        return sum(lane.held_items for lane in self._lanes.values())

    def queued_in(self, lane: Lane) -> int:
        """Items of one lane that wait for the device."""
        return self._lanes[lane].queued_items

    @property
    def held_bytes(self) -> int:
        """Bytes of `held_items`, as their submitters gave them."""
        return sum(lane.held_bytes for lane in self._lanes.values())

    def lane_depths(self) -> Iterator[tuple[str, int, int, int]]:
        """For each lane: its name, items held, those of them queued, bytes held."""
        for lane, queue in self._lanes.items():
            yield lane.name.lower(), queue.held_items, queue.queued_items, queue.held_bytes

    def limits(self) -> tuple[int, int]:
        """Items and bytes that each lane may hold."""
        return self._limits

    @property
    def expected_wait_s(self) -> float:
        """Seconds until an item that came now would be answered, by what items took lately."""
        return self.held_items * self._item_seconds

    @property
    def running_s(self) -> float:
        """How long the batch in the device has run, in seconds; 0 when idle."""
        return max((time.monotonic() - since for since, _ in tuple(self._running.values())), default=0.0)

    def running(self) -> Sequence[Running]:
        """What is in the devices now. To be read from any thread."""
        return [running for _, running in tuple(self._running.values())]

    @property
    def lost(self) -> bool:
        """Whether no device is left."""
        return False

    def admit(self, lane: Lane, *, items: int, size_bytes: int) -> Seat:
        """Promise room to a whole call before its items are decoded, or raise ``Overloaded`` at once.

        Use the seat as a context manager around the call, and give it to each `submit`.
        """
        try:
            return self._lanes[lane].admit(items, size_bytes, self._predicted_wait_s())
        except Overloaded:
            self.observer.refused(lane)
            raise

    async def room(self, lane: Lane = Lane.BULK) -> None:
        """Wait until the lane is less than half full: streams read no further meanwhile, and leave half to unary calls.

        Nothing can take the room between the return of this and an `admit` or `submit` that follows without an await.
        """
        await self._lanes[lane].room()

    async def submit(
        self,
        item: In,
        *,
        lane: Lane,
        size_bytes: int,
        group: Hashable = None,
        deadline: float | None = None,
        seat: Seat | None = None,
    ) -> Answer[Out]:
        """Queue one item and wait for its answer. `deadline` is a time of the event loop's clock.

        Cancelling takes the item out of the queue. Raises ``Overloaded`` where the lane is full (never with a seat),
        ``DeadlineExceeded`` where the deadline passes before the device is free, ``InternalFault`` with reason
        MODEL_FAILED where the model fails on this very item.
        """
        queue = self._lanes[lane]
        if self._stopping:
            raise Unavailable(Reason.DRAINING, f"{self._name} stops: send it again.")
        own_seat = self.admit(lane, items=1, size_bytes=size_bytes) if seat is None else None
        answer_to_come: asyncio.Future[Answer[Out]] = asyncio.get_running_loop().create_future()
        entry = Entry(item, group, deadline, answer_to_come, Ride(lane.name.lower()))
        queue.put(entry)
        self._wake.set()
        try:
            answer = await entry.answer
            self.observer.waited(lane, answer.queue_us / 1e6)
            return answer
        except BaseException as error:
            entry.ride.fail(error)
            raise
        finally:
            entry.ride.end()
            queue.discard(entry)
            if own_seat is not None:
                own_seat.release()

    def _predicted_wait_s(self) -> float:
        return max(0.1, round(self.expected_wait_s, 3))

    async def _loop(self, worker: int) -> None:
        while not self._stopping:
            batch = self._take()
            if not batch:
                self._wake.clear()
                await self._wake.wait()
                # Let everybody who is ready now submit: one pass of the loop, not a wait.
                await asyncio.sleep(0)
                continue
            await self._compute(worker, batch)

    def _take(self) -> list[Entry[In, Answer[Out]]]:
        first, second = self._lanes[Lane.INTERACTIVE], self._lanes[Lane.BULK]
        if self._interactive_in_a_row >= INTERACTIVE_BATCHES_IN_A_ROW and second.queued_items:
            first, second = second, first
        now = asyncio.get_running_loop().time()
        for lane, queue in self._lanes.items():
            dropped = queue.drop_late(now)
            if dropped:
                self.observer.late(lane, len(dropped))
            for late in dropped:
                late.fail(
                    DeadlineExceeded(Reason.DEADLINE_EXCEEDED, f"Its deadline passed in the queue of {self._name}.")
                )
        if not first.queued_items:
            first, second = second, first
        group = first.oldest_group()
        batch = first.take(group, self._max_batch)
        # Seats that the chosen lane leaves empty cost nothing: the other lane's items of that group ride along.
        batch += second.take(group, self._max_batch - len(batch))
        self._interactive_in_a_row = self._interactive_in_a_row + 1 if first is self._lanes[Lane.INTERACTIVE] else 0
        return batch

    async def _compute(self, worker: int, batch: list[Entry[In, Answer[Out]]], inside: Context | None = None) -> None:
        """Run the batch; where it fails, run its halves, so that in the end only the items that cannot be done fail.

        `inside`: where the span of the batch that this is a half of is current.
        """
        batch = [entry for entry in batch if not entry.answer.done()]
        if not batch:
            return
        facts = {spans.MODEL: self._name, spans.BATCH_SIZE: len(batch)}
        with batch_span([entry.ride for entry in batch], facts, inside) as span:
            try:
                await self._compute_at_once(worker, batch)
            except Exception as error:  # noqa: BLE001 - whatever a model raises, the loop must live on
                # Without its words: an error that nobody foresaw may quote what it was given.
                spans.fail(span, error)
                if len(batch) == 1:
                    self._blame(batch[0], error)
                    return
                self.observer.batch_failed()
                _log.warning("%s failed on a batch of %d, trying its halves: %r", self._name, len(batch), error)
                for entry in batch:
                    entry.ride.put_back()
                middle = len(batch) // 2
                for half in (batch[:middle], batch[middle:]):
                    await self._compute(worker, half, context.get_current())

    async def _compute_at_once(self, worker: int, batch: list[Entry[In, Answer[Out]]]) -> None:
        """Run the batch as it is. Raises what the model raises, and nothing is answered then."""
        started = time.monotonic()
        self.batches += 1
        predicted_s = len(batch) * self._item_seconds or None
        self._running[worker] = started, Running(self.batches, len(batch), predicted_s)
        try:
            outputs = await self._in_thread(worker, [entry.item for entry in batch])
        finally:
            del self._running[worker]
        if len(outputs) != len(batch):
            raise RuntimeError(f"{self._name} returned {len(outputs)} outputs for {len(batch)} items")
        seconds = time.monotonic() - started
        self.observer.computed(len(batch), seconds)
        self._item_seconds += 0.2 * (seconds / len(batch) - self._item_seconds)
        for entry, output in zip(batch, outputs, strict=True):
            if isinstance(output, LensmeshError):
                entry.fail(output)
            elif not entry.answer.done():
                queue_us = int((started - entry.arrived) * 1e6)
                entry.answer.set_result(Answer(output, queue_us, int(seconds * 1e6), len(batch)))

    def _blame(self, entry: Entry[In, Answer[Out]], error: Exception) -> None:
        """The model failed on this very item."""
        self.observer.poisoned()
        _log.exception("%s failed on one item", self._name)
        if not isinstance(error, LensmeshError):
            text = f"{self._name} failed on this item; others are not concerned."
            # As by `raise ... from`: a report of the error shows what lies behind it, as the batch's span does.
            cause, error = error, InternalFault(Reason.MODEL_FAILED, text)
            error.__cause__ = cause
            spans.mark_recorded(error)
        entry.fail(error)

    async def _in_thread(self, worker: int, items: Sequence[In]) -> Sequence[Out | LensmeshError]:
        # In the batch's context, for what the thread logs.
        run = functools.partial(contextvars.copy_context().run, self._workers[worker], items)
        return await asyncio.get_running_loop().run_in_executor(self._threads[worker], run)
