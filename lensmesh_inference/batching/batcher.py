"""Batches of many callers' items, formed for the devices of one model.

There are two lanes. Interactive items go before bulk items, but bulk items never starve. Both lanes are bounded in
items, bytes and predicted wait. A batch holds one group only (images or texts, one set of generation parameters). It is
made of what is ready when a device becomes free: an idle device starts at once, and while one is busy the next batch
gathers. Cancelled and late items leave before a device sees them. Everything runs on the event loop, except for one
thread for each device. This module knows no torch and no gRPC.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from lensmesh_chassis.errors import LensmeshError, Overloaded
from lensmesh_inference.batching.admission import Admission
from lensmesh_inference.batching.costs import Costs
from lensmesh_inference.batching.device_thread import DeviceThread, Thread
from lensmesh_inference.batching.devices import DeviceWorker
from lensmesh_inference.batching.dispatch import Dispatcher
from lensmesh_inference.batching.execution import Execution, ItemOutput
from lensmesh_inference.batching.gauges import BatcherGauges
from lensmesh_inference.batching.lanes import Lane, QueuedItem, Reservation
from lensmesh_inference.batching.observer import BatchObserver, NullBatchObserver
from lensmesh_inference.batching.selection import Selector
from lensmesh_inference.batching.tracing import NOT_RECORDED, ItemSpan, ItemTrace
from lensmesh_inference.options import BatchingOptions

__all__ = ["Batcher", "ItemOutput", "Lane", "Reservation"]

In = TypeVar("In")
Out = TypeVar("Out")


class Batcher(BatcherGauges, Generic[In, Out]):
    """A queue, and a thread for each of the `workers` that take batches from it.

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
        thread: Callable[[str], Thread] = DeviceThread,
    ) -> None:
        self.observer = observer or NullBatchObserver()
        costs = Costs()
        devices = [
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
        admission = Admission(
            name,
            devices,
            costs,
            max_items=options.max_queue_items,
            max_bytes=options.max_queue_bytes,
            max_wait_s=options.max_wait_s,
            kind_of=cost_group,
            clock=clock,
        )
        super().__init__(name, devices, admission, (options.max_queue_items, options.max_queue_bytes), clock)
        selector: Selector[In, ItemOutput[Out]] = Selector(
            self._lanes,
            costs,
            linger_s=options.linger_s,
            bulk_batch_s=options.bulk_batch_s,
            kind_of=cost_group,
        )
        execution: Execution[In, Out] = Execution(
            name, costs, kind_of=cost_group, is_late=selector.is_late, observer=self.observer, clock=clock
        )
        self._dispatcher = Dispatcher(name, devices, self._lanes, selector, execution, clock)

    async def start(self) -> None:
        """Start the devices' threads. Items submitted before wait for it."""
        self._dispatcher.start()

    async def stop(self) -> None:
        """Finish the batches in the threads, fail what is queued with ``Unavailable``, and end the threads."""
        await self._dispatcher.stop()

    def admit(self, lane: Lane, *, items: int, size_bytes: int, deadline: float | None = None) -> Reservation:
        """Reserve room for a whole call before its items are decoded, or raise ``Overloaded`` at once.

        A call is refused if its lane is full, or if it would wait for longer than allowed or than until its `deadline`.
        Each item is `put` once it is prepared.
        """
        self._dispatcher.check_open()
        try:
            return self._admission.admit(lane, items, size_bytes, deadline)
        except Overloaded:
            self.observer.refused(lane)
            raise

    def try_to_admit(
        self, lane: Lane, *, items: int, size_bytes: int, deadline: float | None = None
    ) -> Reservation | None:
        """Do as `admit` does, but return None where that would refuse the call: it may need less room."""
        self._dispatcher.check_open()
        with suppress(Overloaded):
            return self._admission.admit(lane, items, size_bytes, deadline)
        return None

    def admit_if_room(self, lane: Lane, *, size_bytes: int) -> Reservation | None:
        """Do as `admit_when_room` does, but return None in place of waiting."""
        self._dispatcher.check_open()
        return self._admission.admit_if_room(lane, size_bytes)

    def has_plenty(self, lane: Lane, group: Hashable, items: int) -> bool:
        """Tell whether so many items of a group may be admitted as far as the predicted wait is concerned."""
        return self._admission.has_plenty(lane, group, items)

    async def admit_when_room(self, lane: Lane, *, size_bytes: int) -> Reservation:
        """Do as `admit` does, for one item, but wait for room. More items may then fit (`Reservation.grow`).

        It waits until the lane is less than half full and the predicted wait is less than half of what is allowed.
        Streams are read no further meanwhile, and leave half of the room to unary calls.
        """
        self._dispatcher.check_open()
        return await self._admission.admit_when_room(lane, size_bytes)

    def expect(self, lane: Lane, group: Hashable | None) -> None:
        """Mark one admitted item as being prepared. A bulk batch may wait for it.

        `group` is None where it is not known before.
        """
        self._lanes[lane].expect(group)

    def expect_no_more(self, lane: Lane, group: Hashable | None) -> None:
        """Take the mark back: the item is put in the queue now, or never."""
        self._lanes[lane].expect_no_more(group)
        self._dispatcher.wake()

    def put(
        self,
        item: In,
        on_answer: Callable[[QueuedItem[In, ItemOutput[Out]]], None],
        *,
        lane: Lane,
        group: Hashable = None,
        deadline: float | None = None,
        device: int | None = None,
        span: ItemSpan = NOT_RECORDED,
    ) -> QueuedItem[In, ItemOutput[Out]]:
        """Queue one admitted item. `on_answer` is called on the event loop with what is returned, once it is answered.

        The answer is ``DeadlineExceeded`` where the deadline passes before a device is free or is sooner than the
        fastest batch so far, and ``InternalFault`` with reason MODEL_FAILED or OUT_OF_MEMORY where the model fails on
        this very item.

        With `device`, the device of that number answers the item, before all others and alone in a batch, to find out
        whether it works. If that device is lost, any other answers. Raises ``Unavailable`` where no device will.
        """
        self._dispatcher.check_open()
        trace = ItemTrace(lane, span)
        entry = QueuedItem(item, group, lane, deadline, self._clock(), on_answer, trace)
        if device is None or self._devices[device].lost:
            self._lanes[lane].put(entry)
        else:
            self._devices[device].own[entry] = None
        self._dispatcher.wake()
        return entry

    def withdraw(self, entry: QueuedItem[In, ItemOutput[Out]]) -> None:
        """Take an item out of the queue, if it is still there: nobody waits for its answer."""
        entry.give_up()
        self._lanes[entry.lane].discard(entry)
        for device in self._devices:
            device.own.pop(entry, None)
