"""The devices' service: each takes the next batch when it is free, and a lost one leaves its work to the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from lensmesh_chassis.errors import InternalFault, LensmeshError, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.batching.devices import DeviceWorker
from lensmesh_inference.batching.execution import Execution, ItemOutput
from lensmesh_inference.batching.faults import DeviceLost
from lensmesh_inference.batching.lanes import Lane, LaneQueue, QueuedItem
from lensmesh_inference.batching.selection import Selector

In = TypeVar("In")
Out = TypeVar("Out")

# An item that was in so many devices as they were lost is not given to another: it may be what kills them.
MOST_LOSSES = 2

_log = logging.getLogger(__name__)


class Dispatcher(Generic[In, Out]):
    """A task for each device of one model, which runs one batch after the other. `wake` tells it of whatever is new."""

    def __init__(
        self,
        name: str,
        devices: Sequence[DeviceWorker[In, Out | LensmeshError]],
        lanes: Mapping[Lane, LaneQueue[In, ItemOutput[Out]]],
        selector: Selector[In, ItemOutput[Out]],
        execution: Execution[In, Out],
        clock: Callable[[], float],
    ) -> None:
        self._name = name
        self._devices = devices
        self._lanes = lanes
        self._selector = selector
        self._execution = execution
        self._clock = clock
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._lost = False
        """True where no device is left."""

    def start(self) -> None:
        """Start the devices' threads."""
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
        self.wake()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(device.stop() for device in self._devices))
        self._tasks = []
        self._fail_queued(self._gone())

    def wake(self) -> None:
        """Have the idle devices look at the queue again."""
        self._wake.set()

    def check_open(self) -> None:
        """Raise ``Unavailable`` where no device will take anything any more."""
        if self._stopping or self._lost:
            raise self._gone()

    async def _serve(self, device: DeviceWorker[In, Out | LensmeshError]) -> None:
        while not self._stopping:
            # Before the look at the queue: what is dropped may come again while it is told of that.
            self._wake.clear()
            if device.own:
                batch = [device.take_own()]
            else:
                choice = self._selector.choose(self._clock(), device.limit)
                if choice.late:
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
        left = sum(not one.lost for one in self._devices)
        self._lost = not left
        _log.error("%s is lost, %d devices are left: %r", device.name, left, error)
        unanswered = [entry for entry in batch if not entry.done]
        for entry in unanswered:
            entry.losses += 1
            if entry.losses >= MOST_LOSSES:
                text = f"{self._name} lost {entry.losses} devices with this item in them."
                entry.fail(InternalFault(Reason.MODEL_FAILED, text))
        for lane, queue in self._lanes.items():
            queue.put_back([entry for entry in unanswered if entry.lane is lane and not entry.done])
        while device.own:
            entry = device.take_own()
            self._lanes[entry.lane].put(entry)
        if self._lost:
            self._fail_queued(self._gone())
        self.wake()

    def _gone(self) -> Unavailable:
        if self._lost:
            return Unavailable(Reason.NOT_READY, f"{self._name} has no device left: send it to another replica.")
        return Unavailable(Reason.DRAINING, f"{self._name} stops: send it again.")

    def _fail_queued(self, error: Unavailable) -> None:
        for lane in self._lanes.values():
            for entry in lane.clear():
                entry.fail(error)
        for device in self._devices:
            while device.own:
                device.take_own().fail(error)
