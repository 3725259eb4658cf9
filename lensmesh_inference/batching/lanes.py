"""One lane of a batcher:

who waits, in which order, and how much of it may wait. Only the event loop's thread touches it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import islice
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from lensmesh_chassis.errors import LensmeshError, Overloaded
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.batching.tracing import Ride

In = TypeVar("In")
A = TypeVar("A")


class Lane(IntEnum):
    """Who waits for whom."""

    INTERACTIVE = 0
    BULK = 1


@dataclass(eq=False)
class Entry(Generic[In, A]):
    """One waiting item; `arrived` is of the monotonic clock, `deadline` of the event loop's."""

    item: In
    group: Hashable
    deadline: float | None
    answer: asyncio.Future[A]
    ride: Ride
    arrived: float = field(default_factory=time.monotonic)

    def fail(self, error: LensmeshError) -> None:
        """Answer with an error, unless the caller has gone."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Seat:
    """Room for some items, until released. Releasing twice is harmless."""

    def __init__(self, lane: LaneQueue[Any, Any], items: int, size_bytes: int) -> None:
        self._lane: LaneQueue[Any, Any] | None = lane
        self._items = items
        self._size_bytes = size_bytes

    def release(self) -> None:
        """Give the room back."""
        lane, self._lane = self._lane, None
        if lane is not None:
            lane.give_back(self._items, self._size_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class LaneQueue(Generic[In, A]):
    """First in, first out within a group; room is counted by seats, from admission to answer."""

    def __init__(self, name: str, max_items: int, max_bytes: int) -> None:
        self._name = name
        self._max_items = max_items
        self._max_bytes = max_bytes
        # Dicts keep insertion order and lose an entry in constant time, wherever it stands.
        self._groups: dict[Hashable, dict[Entry[In, A], None]] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self.queued_items = 0
        self.held_items = 0
        self.held_bytes = 0

    def admit(self, items: int, size_bytes: int, wait_s: float) -> Seat:
        """Take room for `items`, or raise ``Overloaded``. An empty lane takes any one call, however large."""
        over_items = self.held_items + items > self._max_items
        over_bytes = self.held_bytes + size_bytes > self._max_bytes
        if self.held_items and (over_items or over_bytes):
            limit = f"{self._max_items} items" if over_items else f"{self._max_bytes} bytes"
            raise Overloaded(
                Reason.OVERLOADED,
                f"The queue of {self._name} is full ({limit}): try again in {wait_s:g} s, or send less at once.",
                retry_after_s=wait_s,
                metadata={"queued_items": self.held_items, "queued_bytes": self.held_bytes},
            )
        self.held_items += items
        self.held_bytes += size_bytes
        return Seat(self, items, size_bytes)

    def give_back(self, items: int, size_bytes: int) -> None:
        """What `Seat.release` does."""
        self.held_items -= items
        self.held_bytes -= size_bytes
        if self._waiting and self._has_room():
            # All of them look again, in their order; who finds no room queues up again before anybody new can.
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)

    async def room(self) -> None:
        """Wait until less than half of the room is taken."""
        while not self._has_room():
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter

    def _has_room(self) -> bool:
        return not self.held_items or (self.held_items * 2 < self._max_items and self.held_bytes * 2 < self._max_bytes)

    def put(self, entry: Entry[In, A]) -> None:
        """Queue one entry behind its group."""
        self._groups.setdefault(entry.group, {})[entry] = None
        self.queued_items += 1

    def discard(self, entry: Entry[In, A]) -> None:
        """Take one entry out, if it is still there."""
        group = self._groups.get(entry.group)
        if group is not None and entry in group:
            del group[entry]
            self.queued_items -= 1
            if not group:
                del self._groups[entry.group]

    def oldest_group(self) -> Hashable:
        """The group whose first entry has waited longest; None in an empty lane."""
        if not self._groups:
            return None
        return min(self._groups, key=lambda group: next(iter(self._groups[group])).arrived)

    def take(self, group: Hashable, count: int) -> list[Entry[In, A]]:
        """Take out up to `count` entries of one group, oldest first."""
        taken = list(islice(self._groups.get(group, ()), count))
        for entry in taken:
            self.discard(entry)
        return taken

    def drop_late(self, now: float) -> list[Entry[In, A]]:
        """Take out every entry whose deadline has passed."""
        late = [
            entry
            for group in self._groups.values()
            for entry in group
            if entry.deadline is not None and entry.deadline <= now
        ]
        for entry in late:
            self.discard(entry)
        return late

    def clear(self) -> list[Entry[In, A]]:
        """Take out everything."""
        return [entry for group in list(self._groups) for entry in self.take(group, self.queued_items)]
