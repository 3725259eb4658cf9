"""Batches of many callers' items, formed for the devices of one model.

There are two lanes. Interactive items go before bulk items, but bulk items never starve. Both lanes are bounded in
items, bytes and predicted wait. A batch holds one group only (images or texts, one set of generation parameters). It is
made of what is ready when a device becomes free: an idle device starts at once, and while one is busy the next batch
gathers. Cancelled and late items leave before a device sees them. Everything runs on the event loop, except for one
thread for each device. This module knows no torch and no gRPC.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Generic, TypeVar

from lensmesh_chassis.errors import InternalFault, LensmeshError, Overloaded, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.batching.admission import Admission
from lensmesh_inference.batching.costs import Costs
from lensmesh_inference.batching.devices import DeviceWorker, one_thread
from lensmesh_inference.batching.execution import Execution, ItemOutput
from lensmesh_inference.batching.faults import DeviceLost
from lensmesh_inference.batching.lanes import Lane, QueuedItem, Reservation
from lensmesh_inference.batching.observer import BatchObserver, NullBatchObserver
from lensmesh_inference.batching.running import Running
from lensmesh_inference.batching.selection import Selector
from lensmesh_inference.batching.tracing import ItemTrace
from lensmesh_inference.options import BatchingOptions

__all__ = ["Batcher", "ItemOutput", "Lane", "Reservation"]

In = TypeVar("In")
Out = TypeVar("Out")

# An item that was in so many devices as they were lost is not given to another: it may be what kills them.
MOST_LOSSES = 2

_log = logging.getLogger(__name__)


class Batcher(Generic[In, Out]):
    """One queue, and a thread for each of the `workers` that take batches from it.

    A worker gets up to `options.max_batch` items of one group and returns as many outputs, in order. An output that is
    an exception fails its own item. A worker may raise `OutOfMemory` and `DeviceLost`; any other error counts as the
    fault of one of the items.

    `cost_group` maps a group to what its costs depend on. `observer` is told what happens, so that it can count it.
    `clock` must be the event loop's.
    """

    def __init__(
        self,
        workers: Sequence[Callable[[Sequence[In]], Sequence[Out | LensmeshError]]],
        *,
        name: str,
        options: BatchingOptions,
        cost_group: Callable[[Hashable], Hashable] = lambda group: group,
        observer: BatchObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
        thread: Callable[[str], Executor] = one_thread,
    ) -> None:
        self._name = name
        self._limits = (options.max_queue_items, options.max_queue_bytes)
        self._clock = clock
        self.observer = observer or NullBatchObserver()
        self._costs = Costs()
        self._devices = [
            DeviceWorker(
                worker,
                number=number,
                name=f"batch-{name}-{number}",
                max_batch=options.max_batch,
                clock=clock,
                thread=thread,
            )
            for number, worker in enumerate(workers)
        ]
        self._admission = Admission(
            name,
            self._devices,
            self._costs,
            max_items=options.max_queue_items,
            max_bytes=options.max_queue_bytes,
            max_wait_s=options.max_wait_s,
            kind_of=cost_group,
            clock=clock,
        )
        self._lanes = self._admission.lanes
        self._selector: Selector[In, ItemOutput[Out]] = Selector(
            self._lanes,
            self._costs,
            linger_s=options.linger_s,
            bulk_batch_s=options.bulk_batch_s,
            kind_of=cost_group,
        )
        self._execution: Execution[In, Out] = Execution(
            name,
            self._costs,
            kind_of=cost_group,
            is_late=self._selector.is_late,
            observer=self.observer,
            clock=clock,
        )
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
        """The name of the model."""
        return self._name

    def batches_of(self, device: int) -> int:
        """Return the number of batches that one device has been given so far."""
        return self._devices[device].batches

    @property
    def queued_items(self) -> int:
        """Items that wait for any device, in both lanes."""
        return sum(lane.queued_items for lane in self._lanes.values())

    @property
    def held_items(self) -> int:
        """Items queued, in a device or promised room, in both lanes."""
        return sum(lane.held_items for lane in self._lanes.values())

    def queued_in(self, lane: Lane) -> int:
        """Return the number of items of one lane that wait for a device."""
        return self._lanes[lane].queued_items

    @property
    def held_bytes(self) -> int:
        """Bytes of `held_items`, as their submitters gave them."""
        return sum(lane.held_bytes for lane in self._lanes.values())

    def lane_depths(self) -> Iterator[tuple[str, int, int, int]]:
        """Yield for each lane: its name, items held, those of them queued, bytes held."""
        for lane, queue in self._lanes.items():
            yield lane.name.lower(), queue.held_items, queue.queued_items, queue.held_bytes

    def limits(self) -> tuple[int, int]:
        """Return the items and bytes that each lane may hold."""
        return self._limits

    def wait_s(self, lane: Lane) -> float:
        """Return the seconds until a device would begin with an item that came now, predicted from recent batches."""
        return self._admission.wait_s(lane)

    @property
    def expected_wait_s(self) -> float:
        """The predicted wait (`wait_s`) of bulk items, which wait for everything."""
        return self.wait_s(Lane.BULK)

    @property
    def running_s(self) -> float:
        """The seconds that the oldest batch in a device has run; 0 when all devices are idle."""
        now = self._clock()
        return max((device.running_s(now) for device in self._devices), default=0.0)

    def running(self) -> Sequence[Running]:
        """Return what is in the devices now. Safe to call from any thread."""
        return [batch for device in self._devices if (batch := device.running()) is not None]

    @property
    def working(self) -> list[int]:
        """The numbers of the devices that are left."""
        return [device.number for device in self._devices if not device.lost]

    @property
    def devices(self) -> int:
        """The number of devices that are left."""
        return len(self.working)

    @property
    def lost(self) -> bool:
        """Whether no device is left."""
        return not self.devices

    @property
    def batch_limit(self) -> int:
        """The items that the smallest device left takes in one batch now; 0 where no device is left."""
        return min((device.limit for device in self._devices if not device.lost), default=0)

    def admit(self, lane: Lane, *, items: int, size_bytes: int, deadline: float | None = None) -> Reservation:
        """Reserve room for a whole call before its items are decoded, or raise ``Overloaded`` at once.

        A call is refused if its lane is full, or if it would wait for longer than allowed or than until its `deadline`.
        Use the reservation as a context manager around the call, and pass it to each `submit`.
        """
        self._check_open()
        try:
            return self._admission.admit(lane, items, size_bytes, deadline)
        except Overloaded:
            self.observer.refused(lane)
            raise

    async def admit_when_room(self, lane: Lane, *, size_bytes: int) -> Reservation:
        """Do as `admit` does, for one item, but wait for room.

        It waits until the lane is less than half full and the predicted wait is less than half of what is allowed.
        Streams are read no further meanwhile, and leave half of the room to unary calls.
        """
        self._check_open()
        return await self._admission.admit_when_room(lane, size_bytes)

    @contextmanager
    def coming(self, lane: Lane, group: Hashable | None = None) -> Iterator[None]:
        """Mark one admitted item as being prepared, right before its `submit`. A bulk batch may wait for it.

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
        reservation: Reservation | None = None,
        device: int | None = None,
    ) -> ItemOutput[Out]:
        """Queue one item and wait for its answer. `deadline` is a time of the event loop's clock.

        With `device`, the device of that number answers the item, before all others and alone in a batch, to find out
        whether it works. If that device is lost, any other answers.

        Cancelling takes the item out of the queue. Raises ``Overloaded`` where the lane is full (never with a
        reservation), ``DeadlineExceeded`` where the deadline passes before a device is free or is sooner than the
        fastest batch so far, and ``InternalFault`` with reason MODEL_FAILED or OUT_OF_MEMORY where the model fails on
        this very item.
        """
        self._check_open()
        asked = None if device is None or self._devices[device].lost else self._devices[device]
        own_reservation = self.admit(lane, items=1, size_bytes=size_bytes) if reservation is None else None
        answer_to_come: asyncio.Future[ItemOutput[Out]] = asyncio.get_running_loop().create_future()
        trace = ItemTrace(lane.name.lower())
        entry = QueuedItem(item, group, lane, deadline, self._clock(), answer_to_come, trace)
        queue = self._lanes[lane]
        if asked is None:
            queue.put(entry)
        else:
            asked.own[entry] = None
        self._wake.set()
        try:
            answer = await entry.answer
            self.observer.waited(lane, answer.queue_us / 1e6)
            return answer
        except BaseException as error:
            trace.fail(error)
            raise
        finally:
            trace.end()
            queue.discard(entry)
            if asked is not None:
                asked.own.pop(entry, None)
            if own_reservation is not None:
                own_reservation.release()

    async def _serve(self, device: DeviceWorker[In, Out | LensmeshError]) -> None:
        while not self._stopping:
            if device.own:
                batch = [device.take_own()]
            else:
                choice = self._selector.choose(self._clock(), device.limit)
                self._execution.drop(choice.late)
                batch = choice.batch
                if not batch:
                    await self._sleep(choice.look_again)
                    continue
            try:
                await self._execution.run(device, batch)
            except DeviceLost as error:
                self._lose(device, batch, error)
                return

    async def _sleep(self, look_again: float | None) -> None:
        """Wait until something happens, at the latest until `look_again`."""
        self._wake.clear()
        alarm = None if look_again is None else asyncio.get_running_loop().call_at(look_again, self._wake.set)
        await self._wake.wait()
        if alarm is not None:
            alarm.cancel()
        # Let everybody who is ready now submit: one pass of the loop, not a wait.
        await asyncio.sleep(0)

    def _lose(
        self,
        device: DeviceWorker[In, Out | LensmeshError],
        batch: Sequence[QueuedItem[In, ItemOutput[Out]]],
        error: DeviceLost,
    ) -> None:
        """Take the device out. What it did not answer goes to the others, if there are any."""
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
        while device.own:
            entry = device.take_own()
            self._lanes[entry.lane].put(entry)
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
        for device in self._devices:
            while device.own:
                device.take_own().fail(error)
