"""A lane of a batcher: the items that wait, their order, and how many may wait.

Only the event loop's thread changes it. Its numbers may be read from any thread.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from lensmesh_chassis.errors import LensmeshError, Overloaded
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.batching.tracing import ItemTrace

In = TypeVar("In")
A = TypeVar("A")


# What a caller is told to wait at least: it learns nothing from asking sooner.
_LEAST_RETRY_S: Final = 0.1


class Lane(IntEnum):
    """The lane of an item: interactive items go before bulk items."""

    INTERACTIVE = 0
    BULK = 1


@dataclass(eq=False, slots=True)
class QueuedItem(Generic[In, A]):
    """An item that waits for its answer. `arrived` and `deadline` are times of the batcher's clock.

    `on_answer` is called on the event loop, once there is an answer: `output`, or `error`. It must not raise.
    """

    item: In
    group: Hashable
    lane: Lane
    deadline: float | None
    arrived: float
    on_answer: Callable[[QueuedItem[In, A]], None]
    trace: ItemTrace
    losses: int = 0
    """The number of devices that were lost while the item was in them."""
    done: bool = False
    """True where it is answered, or nobody waits for it any more."""
    output: A | None = None
    error: BaseException | None = None

    def answer(self, output: A) -> None:
        """Answer with the model's output, unless the caller has gone."""
        if not self.done:
            self.output = output
            self._end()

    def fail(self, error: LensmeshError) -> None:
        """Answer with an error, unless the caller has gone."""
        if not self.done:
            self.error = error
            self.trace.fail(error)
            self._end()

    def give_up(self) -> None:
        """Tell nothing any more: the caller has gone."""
        if not self.done:
            self.done = True
            self.trace.fail(asyncio.CancelledError())
            self.trace.end()

    def _end(self) -> None:
        self.done = True
        self.trace.end()
        self.on_answer(self)


class Reservation:
    """Room for some items, until released. Releasing twice is harmless."""

    def __init__(self, lane: LaneQueue[Any, Any], items: int, size_bytes: int) -> None:
        self._lane = lane
        self._items = items
        self._size_bytes = size_bytes

    def grow(self, size_bytes: int, *, plenty: bool = False) -> bool:
        """Take room for one more item of a stream, and return True, where there is any.

        With `plenty`, the predicted wait was looked at for all items together.
        """
        if not self._lane.has_room(size_bytes, plenty=plenty):
            return False
        self._lane.take_room(1, size_bytes)
        self._items += 1
        self._size_bytes += size_bytes
        return True

    def give_back(self, size_bytes: int) -> None:
        """Give the room of one item back."""
        self._items -= 1
        self._size_bytes -= size_bytes
        self._lane.give_back(1, size_bytes)

    def release(self) -> None:
        """Give the room back."""
        items, size_bytes = self._items, self._size_bytes
        self._items = self._size_bytes = 0
        if items:
            self._lane.give_back(items, size_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@dataclass
class _Group(Generic[In, A]):
    # Dicts keep insertion order and lose an entry in constant time, wherever it stands.
    entries: dict[QueuedItem[In, A], None] = field(default_factory=dict)
    lingering_since: float | None = None


class LaneQueue(Generic[In, A]):
    """A queue that is first in, first out within a group. Reservations count its room, from admission to answer.

    `more` says whether streams should go on reading, apart from the room.
    """

    def __init__(self, name: str, max_items: int, max_bytes: int, more: Callable[[], bool] = lambda: True) -> None:
        self._name = name
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._more = more
        self._groups: dict[Hashable, _Group[In, A]] = {}
        self._coming: Counter[Hashable] = Counter()
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._called = False
        """True while a waiting item was woken and has not looked for room yet."""
        self.queued_items = 0
        self.held_items = 0
        self.held_bytes = 0

    def admit(self, items: int, size_bytes: int, wait_s: float = 0.0) -> Reservation:
        """Take room for `items`, or raise ``Overloaded``. An empty lane takes any one call, however large.

        `wait_s` is the predicted wait, of which the error tells.
        """
        over_items = self.held_items + items > self._max_items
        over_bytes = self.held_bytes + size_bytes > self._max_bytes
        if self.held_items and (over_items or over_bytes):
            limit = f"{self._max_items} items" if over_items else f"{self._max_bytes} bytes"
            wait_s = retry_s(wait_s)
            raise Overloaded(
                Reason.OVERLOADED,
                f"The queue of {self._name} is full ({limit}): try again in {wait_s:g} s, or send less at once.",
                retry_after_s=wait_s,
                metadata={
                    "queued_items": self.held_items,
                    "queued_bytes": self.held_bytes,
                    "predicted_wait_seconds": wait_s,
                },
            )
        self.take_room(items, size_bytes)
        return Reservation(self, items, size_bytes)

    def take_room(self, items: int, size_bytes: int) -> None:
        """Count items as held. `Reservation` counts them off."""
        self.held_items += items
        self.held_bytes += size_bytes

    def give_back(self, items: int, size_bytes: int) -> None:
        """Give room back. `Reservation` calls it."""
        self.held_items -= items
        self.held_bytes -= size_bytes
        self._let_in()

    async def room(self, size_bytes: int) -> None:
        """Wait until there is room for one item of a stream, first come, first served.

        There is room if less than half of it is taken, the item fits, and `more` says yes.
        """
        if self.room_now(size_bytes):
            return
        loop = asyncio.get_running_loop()
        line_up = self._waiting.append
        while True:
            turn = loop.create_future()
            line_up((turn, size_bytes))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.cancelled():
                    with suppress(ValueError):
                        self._waiting.remove((turn, size_bytes))
                else:
                    self._called = False
                    self._let_in()
                raise
            self._called = False
            if self.has_room(size_bytes):
                # The next one looks when this one has taken its room, which it does before it waits again.
                loop.call_soon(self._let_in)
                return
            # A call took it meanwhile: first again.
            line_up = self._waiting.appendleft

    def room_now(self, size_bytes: int) -> bool:
        """Tell whether there is room for one item of a stream, and nobody waits for it."""
        return not self._waiting and not self._called and self.has_room(size_bytes)

    def _let_in(self) -> None:
        """Wake the first waiting item where there is room. Only one is awake at a time, so that their order stays."""
        while self._waiting and not self._called and self.has_room(self._waiting[0][1]):
            turn, _ = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._called = True

    def has_room(self, size_bytes: int, *, plenty: bool = False) -> bool:
        """Tell whether there is room for one item of a stream. With `plenty`, nothing is asked but the room."""
        if not self.held_items:
            return True
        half_free = self.held_items * 2 < self._max_items and self.held_bytes * 2 < self._max_bytes
        return half_free and self.held_bytes + size_bytes <= self._max_bytes and (plenty or self._more())

    def expect(self, group: Hashable | None, items: int = 1) -> None:
        """Count items of that group as being prepared. None: their group is not known yet."""
        self._coming[group] += items

    def expect_no_more(self, group: Hashable | None, items: int = 1) -> None:
        """Count them off: they are prepared, or nobody wants them any more."""
        self._coming[group] -= items
        if not self._coming[group]:
            del self._coming[group]

    def is_coming(self, group: Hashable) -> bool:
        """Tell whether an item is being prepared that is, or may be, of that group."""
        return group in self._coming or None in self._coming

    def counts(self) -> dict[Hashable, int]:
        """Return for each group the number of items queued and being prepared. Safe to call from any thread."""
        counts: dict[Hashable, int] = dict(tuple(self._coming.items()))
        for group, queued in tuple(self._groups.items()):
            counts[group] = counts.get(group, 0) + len(queued.entries)
        return counts

    def put(self, entry: QueuedItem[In, A]) -> None:
        """Queue one entry behind its group."""
        self._groups.setdefault(entry.group, _Group()).entries[entry] = None
        self.queued_items += 1

    def put_back(self, entries: Sequence[QueuedItem[In, A]]) -> None:
        """Queue entries of one group again, before all others of it."""
        if entries:
            group = self._groups.setdefault(entries[0].group, _Group())
            group.entries = dict.fromkeys(entries) | group.entries
            self.queued_items += len(entries)

    def discard(self, entry: QueuedItem[In, A]) -> None:
        """Take one entry out, if it is still there."""
        group = self._groups.get(entry.group)
        if group is not None and entry in group.entries:
            del group.entries[entry]
            self.queued_items -= 1
            if not group.entries:
                del self._groups[entry.group]

    def groups(self) -> list[Hashable]:
        """Return the waiting groups, in the order of their first entries' arrival."""
        groups = list(self._groups)
        if len(groups) > 1:
            groups.sort(key=lambda group: self.oldest(group).arrived)
        return groups

    def oldest(self, group: Hashable) -> QueuedItem[In, A]:
        """Return the first waiting entry of a group."""
        return next(iter(self._groups[group].entries))

    def queued_in(self, group: Hashable) -> int:
        """Return the number of waiting entries of one group."""
        return len(self._groups[group].entries) if group in self._groups else 0

    def lingering_since(self, group: Hashable, now: float) -> float:
        """Return when a device first could have taken this group and was made to wait for more of it.

        It is now, if not before.
        """
        queued = self._groups[group]
        if queued.lingering_since is None:
            queued.lingering_since = now
        return queued.lingering_since

    def take(self, group: Hashable, count: int) -> list[QueuedItem[In, A]]:
        """Take out up to `count` entries of one group, oldest first."""
        queued = self._groups.get(group)
        if queued is None:
            return []
        queued.lingering_since = None
        taken = [entry for entry, _ in zip(queued.entries, range(count), strict=False)]
        for entry in taken:
            self.discard(entry)
        return taken

    def clear(self) -> list[QueuedItem[In, A]]:
        """Take out everything."""
        return [entry for group in list(self._groups) for entry in self.take(group, self.queued_items)]


def retry_s(wait_s: float) -> float:
    """Return after how many seconds a refused caller should ask again, by the predicted wait."""
    return max(_LEAST_RETRY_S, round(wait_s, 3))
