"""The predicted wait of a call, and the decision whether the call is admitted."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from lensmesh_chassis.errors import Overloaded
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.batching.costs import Costs
from lensmesh_inference.batching.devices import DeviceWorker
from lensmesh_inference.batching.lanes import Lane, LaneQueue, Reservation, retry_s


class Admission:
    """The room and the predicted wait of one batcher.

    Only `admit` changes anything; the rest is safe to read from any thread.
    """

    def __init__(
        self,
        name: str,
        devices: Sequence[DeviceWorker[Any, Any]],
        costs: Costs,
        *,
        max_items: int,
        max_bytes: int,
        max_wait_s: float,
        kind_of: Callable[[Hashable], Hashable],
        clock: Callable[[], float],
    ) -> None:
        self._name = name
        self._devices = devices
        self._costs = costs
        self._max_wait_s = max_wait_s
        self._kind_of = kind_of
        self._clock = clock
        self.lanes: Mapping[Lane, LaneQueue[Any, Any]] = {
            lane: LaneQueue(name, max_items, max_bytes, self._more(lane)) for lane in Lane
        }

    def wait_s(self, lane: Lane) -> float:
        """Return the seconds until a device would begin with an item that came now, predicted from recent batches.

        An interactive item waits for the running batches and for interactive items. A bulk item waits for everything.
        """
        now = self._clock()
        alive = [device for device in self._devices if not device.lost]
        if not alive:
            return 0.0
        batch = max(1, min([device.limit for device in alive]))
        work_s = 0.0
        for one, queue in self.lanes.items():
            if one <= lane:
                for group, items in queue.counts().items():
                    work_s += self._costs.queue_seconds(self._kind_of(group), items, batch)
        return _first_free([device.remaining_s(now) for device in alive], work_s)

    def admit(self, lane: Lane, items: int, size_bytes: int, deadline: float | None) -> Reservation:
        """Reserve room for a call, or raise ``Overloaded`` with the predicted wait."""
        wait_s = self.wait_s(lane)
        left_s = math.inf if deadline is None else max(0.0, deadline - self._clock())
        if wait_s > min(self._max_wait_s, left_s):
            raise self._too_long(lane, wait_s, left_s)
        return self.lanes[lane].admit(items, size_bytes, wait_s)

    def admit_if_room(self, lane: Lane, size_bytes: int) -> Reservation | None:
        """Reserve room for one item of a stream, unless there is none or others wait for it."""
        if not self.lanes[lane].room_now(size_bytes):
            return None
        return self.lanes[lane].admit(1, size_bytes)

    async def admit_when_room(self, lane: Lane, size_bytes: int) -> Reservation:
        """Reserve room for one item of a stream, however long that takes."""
        await self.lanes[lane].room(size_bytes)
        return self.lanes[lane].admit(1, size_bytes)

    def has_plenty(self, lane: Lane, group: Hashable, items: int) -> bool:
        """Tell whether streams should still go on reading with so many more items of a group, by the predicted wait."""
        # Each in a batch of its own: at most so long.
        work_s = self._costs.queue_seconds(self._kind_of(group), items, 1)
        return (self.wait_s(lane) + work_s) * 2 < self._max_wait_s

    def _too_long(self, lane: Lane, wait_s: float, left_s: float) -> Overloaded:
        numbers: dict[str, object] = {
            "predicted_wait_seconds": f"{wait_s:.3f}",
            "queued_items": self.lanes[lane].held_items,
            "queued_bytes": self.lanes[lane].held_bytes,
        }
        if wait_s > self._max_wait_s:
            limit = f"the limit is {self._max_wait_s:g} s"
            numbers["max_wait_seconds"] = self._max_wait_s
        else:
            limit = f"the call's deadline is in {left_s:.3g} s"
            numbers["deadline_seconds"] = f"{left_s:.3f}"
        return Overloaded(
            Reason.OVERLOADED,
            f"The predicted wait for {self._name} is {wait_s:.3g} s, {limit}: try again in {retry_s(wait_s):g} s, or "
            "send less at once.",
            retry_after_s=retry_s(wait_s),
            metadata=numbers,
        )

    def _more(self, lane: Lane) -> Callable[[], bool]:
        # As with room in items and bytes, streams leave half of what may wait to calls that cannot wait.
        return lambda: self.wait_s(lane) * 2 < self._max_wait_s


def _first_free(remaining_s: Sequence[float], work_s: float) -> float:
    """Return the seconds until the first device is free.

    Each is busy for `remaining_s`, and all share `work_s` as they become free.
    """
    if len(remaining_s) == 1:
        return remaining_s[0] + work_s
    busy = sorted(remaining_s)
    level = busy[0]
    for sharing, next_free in enumerate(busy[1:], 1):
        until_next = (next_free - level) * sharing
        if until_next >= work_s:
            return level + work_s / sharing
        work_s -= until_next
        level = next_free
    return level + work_s / len(busy)
