"""Many callers' items, formed into batches for the devices of one model.

Two lanes, interactive before bulk, bulk never starved; both bounded in items, bytes and predicted wait. A batch holds
one group only (pictures or texts, one set of generation parameters). It is what is ready when a device becomes free:
an idle device starts at once, a busy one lets the next batch gather. What is cancelled or late leaves before a device
sees it. All runs on the event loop, but for one thread for each device. No torch, no gRPC.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from opentelemetry import context
from opentelemetry.context import Context

from lensmesh_chassis.errors import DeadlineExceeded, InternalFault, LensmeshError, Overloaded, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry import spans
from lensmesh_inference.batching.admission import Admission
from lensmesh_inference.batching.costs import Costs
from lensmesh_inference.batching.devices import Device, one_thread
from lensmesh_inference.batching.faults import DeviceLost, OutOfMemory
from lensmesh_inference.batching.lanes import Entry, Lane, Seat
from lensmesh_inference.batching.observer import BatchObserver, Unobserved
from lensmesh_inference.batching.running import Running
from lensmesh_inference.batching.selection import Selector
from lensmesh_inference.batching.tracing import Ride, batch_span

__all__ = ["Answer", "Batcher", "Lane", "Seat"]

In = TypeVar("In")
Out = TypeVar("Out")

# An item that was in so many devices as they were lost is not given to another: it may be what kills them.
MOST_LOSSES = 2

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
    exception fails its own item. It may raise `OutOfMemory` and `DeviceLost`; whatever else it raises is the fault of
    one of the items.

    Each lane holds at most `max_queue_items` and `max_queue_bytes`, and lets no call in that would wait for longer than
    `max_wait_s`. A bulk batch that is not full waits up to `linger_s` for items that are `coming`; interactive ones
    never wait. `cost_group` maps a group to what its costs depend on. `observer` is told what happens, for whoever
    counts it. `clock` must be the event loop's.
    """

    def __init__(
        self,
        workers: Sequence[Callable[[Sequence[In]], Sequence[Out | LensmeshError]]],
        *,
        name: str,
        max_batch: int,
        max_queue_items: int,
        max_queue_bytes: int,
        max_wait_s: float = math.inf,
        linger_s: float = 0.0,
        cost_group: Callable[[Hashable], Hashable] = lambda group: group,
        observer: BatchObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
        thread: Callable[[str], Executor] = one_thread,
    ) -> None:
        self._name = name
        self._limits = (max_queue_items, max_queue_bytes)
        self._cost_group = cost_group
        self._clock = clock
        self.observer = observer or Unobserved()
        self._costs = Costs()
        self._devices = [
            Device(
                worker, number=number, name=f"batch-{name}-{number}", max_batch=max_batch, clock=clock, thread=thread
            )
            for number, worker in enumerate(workers)
        ]
        self._admission = Admission(
            name,
            self._devices,
            self._costs,
            max_items=max_queue_items,
            max_bytes=max_queue_bytes,
            max_wait_s=max_wait_s,
            kind_of=cost_group,
            clock=clock,
        )
        self._lanes = self._admission.lanes
        self._selector: Selector[In, Answer[Out]] = Selector(
            self._lanes, self._costs, linger_s=linger_s, kind_of=cost_group
        )
        self.batches = 0
        """Batches that the devices have been given so far."""
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        """Start the devices' threads. Items submitted before wait for it."""
        if self._tasks:
            return
        self._stopping = False
        for device in self._devices:
            if device.lost:
                continue
            device.start()
            self._tasks.append(asyncio.create_task(self._serve(device), name=device.name))

    async def stop(self) -> None:
        """Finish the batches in the threads, fail what is queued with ``Unavailable``, and end the threads."""
        self._stopping = True
        self._wake.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(device.stop() for device in self._devices))
        self._tasks = []
        self._fail_queued(self._gone())

    @property
    def name(self) -> str:
        """The model's."""
        return self._name

    @property
    def queued_items(self) -> int:
        """Items that wait for a device, in both lanes."""
        return sum(lane.queued_items for lane in self._lanes.values())

    @property
    def held_items(self) -> int:
        """Items queued, in a device or promised a seat, in both lanes."""
        return sum(lane.held_items for lane in self._lanes.values())

    def queued_in(self, lane: Lane) -> int:
        """Items of one lane that wait for a device."""
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

    def wait_s(self, lane: Lane) -> float:
        """Seconds until a device would begin with an item that came now, by what batches took lately."""
        return self._admission.wait_s(lane)

    @property
    def expected_wait_s(self) -> float:
        """`wait_s` of bulk, which waits for everything."""
        return self.wait_s(Lane.BULK)

    @property
    def running_s(self) -> float:
        """How long the oldest batch in a device has run, in seconds; 0 when all are idle."""
        now = self._clock()
        return max((device.running_s(now) for device in self._devices), default=0.0)

    def running(self) -> Sequence[Running]:
        """What is in the devices now. To be read from any thread."""
        return [batch for device in self._devices if (batch := device.running()) is not None]

    @property
    def devices(self) -> int:
        """Devices that are left."""
        return sum(not device.lost for device in self._devices)

    @property
    def lost(self) -> bool:
        """Whether no device is left."""
        return not self.devices

    @property
    def batch_limit(self) -> int:
        """Items in one batch that the smallest device left takes now; 0 where none is left."""
        return min((device.limit for device in self._devices if not device.lost), default=0)

    def admit(self, lane: Lane, *, items: int, size_bytes: int, deadline: float | None = None) -> Seat:
        """Promise room to a whole call before its items are decoded, or raise ``Overloaded`` at once.

        Refused is what finds the lane full, or would wait for longer than allowed or than until its `deadline`. Use the
        seat as a context manager around the call, and give it to each `submit`.
        """
        self._check_open()
        try:
            return self._admission.admit(lane, items, size_bytes, deadline)
        except Overloaded:
            self.observer.refused(lane)
            raise

    async def admit_when_room(self, lane: Lane, *, size_bytes: int) -> Seat:
        """As `admit`, for one item, waiting until the lane is less than half full and the predicted wait less than half
        of what is allowed: streams read no further meanwhile, and leave half to unary calls."""
        self._check_open()
        return await self._admission.admit_when_room(lane, size_bytes)

    @contextmanager
    def coming(self, lane: Lane, group: Hashable | None = None) -> Iterator[None]:
        """While one admitted item is prepared, right before its `submit`: a bulk batch may wait for it.

        `group` is None where it is not known before.
        """
        with self._lanes[lane].coming(group):
            try:
                yield
            finally:
                self._wake.set()

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
        ``DeadlineExceeded`` where the deadline passes before a device is free or cannot be met by the fastest so
        far, ``InternalFault`` with reason MODEL_FAILED or OUT_OF_MEMORY where the model fails on this very item.
        """
        self._check_open()
        own_seat = self.admit(lane, items=1, size_bytes=size_bytes) if seat is None else None
        answer_to_come: asyncio.Future[Answer[Out]] = asyncio.get_running_loop().create_future()
        ride = Ride(lane.name.lower())
        entry = Entry(item, group, lane, deadline, self._clock(), answer_to_come, ride)
        queue = self._lanes[lane]
        queue.put(entry)
        self._wake.set()
        try:
            answer = await entry.answer
            self.observer.waited(lane, answer.queue_us / 1e6)
            return answer
        except BaseException as error:
            ride.fail(error)
            raise
        finally:
            ride.end()
            queue.discard(entry)
            if own_seat is not None:
                own_seat.release()

    async def _serve(self, device: Device[In, Out | LensmeshError]) -> None:
        while not self._stopping:
            choice = self._selector.choose(self._clock(), device.limit)
            self._drop(choice.late)
            if not choice.batch:
                await self._sleep(choice.look_again)
                continue
            try:
                await self._compute(device, choice.batch)
            except DeviceLost as error:
                self._lose(device, choice.batch, error)
                return

    async def _sleep(self, look_again: float | None) -> None:
        """Until something happens, at the latest until `look_again`."""
        self._wake.clear()
        alarm = None if look_again is None else asyncio.get_running_loop().call_at(look_again, self._wake.set)
        await self._wake.wait()
        if alarm is not None:
            alarm.cancel()
        # Let everybody who is ready now submit: one pass of the loop, not a wait.
        await asyncio.sleep(0)

    async def _compute(
        self,
        device: Device[In, Out | LensmeshError],
        batch: list[Entry[In, Answer[Out]]],
        inside: Context | None = None,
    ) -> None:
        """Run the batch; where it fails, run its halves, so that in the end only the items that cannot be done fail.

        `inside`: where the span of the batch that this is a half of is current. Raises ``DeviceLost``.
        """
        batch = self._still_wanted(batch)
        if not batch:
            return
        if len(batch) > device.limit:
            # The device ran out of memory since this batch was made.
            await self._compute_halves(device, batch, inside)
            return
        facts = {spans.MODEL: self._name, spans.BATCH_SIZE: len(batch)}
        with batch_span([entry.ride for entry in batch], facts, inside) as span:
            try:
                await self._compute_at_once(device, batch)
                return
            except Exception as error:
                # Without its words: an error that nobody foresaw may quote what it was given.
                spans.fail(span, error)
                if isinstance(error, DeviceLost):
                    _put_back(batch)
                    raise
                if isinstance(error, OutOfMemory):
                    self.observer.out_of_memory()
                    device.ran_out_of_memory(len(batch))
                if len(batch) == 1:
                    self._blame(batch[0], error)
                    return
                if not isinstance(error, OutOfMemory):
                    self.observer.batch_failed()
                    _log.warning("%s failed on a batch of %d, trying its halves: %r", self._name, len(batch), error)
                _put_back(batch)
            await self._compute_halves(device, batch, context.get_current())

    async def _compute_halves(
        self, device: Device[In, Out | LensmeshError], batch: list[Entry[In, Answer[Out]]], inside: Context | None
    ) -> None:
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            await self._compute(device, half, inside)

    async def _compute_at_once(
        self, device: Device[In, Out | LensmeshError], batch: list[Entry[In, Answer[Out]]]
    ) -> None:
        """Run the batch as it is. Raises what the worker raises, and nothing is answered then."""
        kind, items = self._cost_group(batch[0].group), len(batch)
        self.batches += 1
        ran = await device.run(
            [entry.item for entry in batch],
            self.batches,
            self._costs.seconds(kind, items),
            seen=self._costs.has_run(device.number, kind, items),
        )
        if len(ran.outputs) != items:
            raise RuntimeError(f"{self._name} returned {len(ran.outputs)} outputs for {items} items")
        device.went_well()
        self._costs.learn(device.number, kind, items, ran.seconds)
        self.observer.computed(items, ran.seconds)
        for entry, output in zip(batch, ran.outputs, strict=True):
            if isinstance(output, LensmeshError):
                entry.fail(output)
            elif not entry.answer.done():
                queue_us = int((ran.started - entry.arrived) * 1e6)
                entry.answer.set_result(Answer(output, queue_us, int(ran.seconds * 1e6), items))

    def _still_wanted(self, batch: list[Entry[In, Answer[Out]]]) -> list[Entry[In, Answer[Out]]]:
        now = self._clock()
        self._drop([entry for entry in batch if not entry.answer.done() and self._selector.is_late(entry, now)])
        return [entry for entry in batch if not entry.answer.done()]

    def _drop(self, late: Sequence[Entry[In, Answer[Out]]]) -> None:
        """Fail what would not be done in time."""
        for lane in Lane:
            if count := sum(entry.lane is lane for entry in late):
                self.observer.late(lane, count)
        for entry in late:
            entry.fail(
                DeadlineExceeded(
                    Reason.DEADLINE_EXCEEDED, f"Its deadline passed, or cannot be met, in the queue of {self._name}."
                )
            )

    def _blame(self, entry: Entry[In, Answer[Out]], error: Exception) -> None:
        """The model failed on this very item."""
        _log.error("%s failed on one item", self._name, exc_info=error)
        if not isinstance(error, OutOfMemory):
            self.observer.poisoned()
        if isinstance(error, LensmeshError):
            entry.fail(error)
            return
        if isinstance(error, OutOfMemory):
            # Not RESOURCE_EXHAUSTED, which callers take as a reason to send it again.
            fault = InternalFault(
                Reason.OUT_OF_MEMORY,
                f"{self._name} runs out of memory on this item alone: give its device more, or share it with less.",
            )
        else:
            text = f"{self._name} failed on this item; others are not concerned."
            fault = InternalFault(Reason.MODEL_FAILED, text)
        # As by `raise ... from`: a report of the error shows what lies behind it, as the batch's span does.
        fault.__cause__ = error
        spans.mark_recorded(fault)
        entry.fail(fault)

    def _lose(
        self, device: Device[In, Out | LensmeshError], batch: Sequence[Entry[In, Answer[Out]]], error: DeviceLost
    ) -> None:
        """The device leaves; what it did not answer goes to the others, if there are any."""
        device.lost = True
        _log.error("%s is lost, %d devices are left: %r", device.name, self.devices, error)
        unanswered = [entry for entry in batch if not entry.answer.done()]
        for entry in unanswered:
            entry.losses += 1
            if entry.losses >= MOST_LOSSES:
                entry.fail(
                    InternalFault(
                        Reason.MODEL_FAILED, f"{self._name} lost {entry.losses} devices with this item in them."
                    )
                )
        for lane, queue in self._lanes.items():
            queue.put_back([entry for entry in unanswered if entry.lane is lane and not entry.answer.done()])
        if self.lost:
            self._fail_queued(self._gone())
        self._wake.set()

    def _check_open(self) -> None:
        if self._stopping or self.lost:
            raise self._gone()

    def _gone(self) -> Unavailable:
        if self.lost:
            return Unavailable(Reason.NOT_READY, f"{self._name} has no device left: send it to another replica.")
        return Unavailable(Reason.DRAINING, f"{self._name} stops: send it again.")

    def _fail_queued(self, error: Unavailable) -> None:
        for lane in self._lanes.values():
            for entry in lane.clear():
                entry.fail(error)


def _put_back(batch: Sequence[Entry[Any, Any]]) -> None:
    for entry in batch:
        entry.ride.put_back()
