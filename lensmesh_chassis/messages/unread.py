"""Bounds for answers on their way out: how many bytes they may take, and when one that nobody reads is ended.

gRPC holds an answer until its caller has room for it. A write that has begun cannot be taken back, and it counts until
it is over, whatever becomes of the call. So an answer waits for room before it is written. Where its method tells how
large it may become (`take_answer_room`), it waits before it is made. A caller that does not read while others wait
loses the connection.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from lensmesh_chassis.concurrency import Budget

# Of an answer there are its bytes, and gRPC's copy of them, while it is written; before, what it is made of as well.
_WRITTEN, _MADE = 2, 4
# Most items are much smaller, and metadata may be four times as large.
_ITEM_BYTES = 16 * 1024
# A part of the room is for answers that are not large, so that the large ones never hold those up.
_SMALL_PART = 4
_AT_A_TIME = 4

UNREAD_S = 15.0


class NoRoomError(Exception):
    """An answer that cannot be written or made, because others are not read."""


class CallOverError(asyncio.CancelledError):
    """The end of a call to which an answer was to be written. It is a cancellation: nothing went wrong here."""


_room: ContextVar["AnswerRoom | None"] = ContextVar("answer_room", default=None)


async def take_answer_room(items: int) -> None:
    """Wait until this call may make an answer of `items` items. To be called before it reads them.

    A second time changes nothing. Raises Overloaded (OVERLOADED) where there is no room in time.
    """
    room = _room.get()
    if room is not None:
        await room.reserve(items * _ITEM_BYTES)


def use_answer_room(room: "AnswerRoom") -> None:
    """Set the room that take_answer_room() takes within this call."""
    _room.set(room)


@dataclass(eq=False)
class _Write:
    bytes: int
    end: Callable[[], object]
    begun: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    ended: bool = False


class AnswerRoom:
    """The room that one answer has taken; at first none. `reserve` is asked for it before the answer is made."""

    __slots__ = ("_bytes", "_reserve", "_room")

    def __init__(self, reserve: "Callable[[AnswerRoom, int], Awaitable[None]] | None" = None) -> None:
        self._reserve = reserve
        self._room: Budget | None = None
        self._bytes = 0

    async def reserve(self, most_bytes: int) -> None:
        """Take room for an answer of at most `most_bytes`."""
        if self._reserve is not None:
            await self._reserve(self, most_bytes)

    def fill(self, room: Budget, taken: int) -> None:
        self._room, self._bytes = room, taken

    @property
    def bytes(self) -> int:
        """The bytes that are taken; 0 where there are none."""
        return self._bytes

    def shrink(self, size: int) -> None:
        """Give back all but `size` bytes."""
        if self._room is not None and self._bytes > size:
            self._room.give(self._bytes - size)
            self._bytes = size

    def handed_on(self) -> "AnswerRoom":
        """Return the room as an object of its own; this one is empty from now on."""
        other = AnswerRoom()
        other._room, other._bytes, self._room, self._bytes = self._room, self._bytes, None, 0
        return other

    def leave(self) -> None:
        """Give all of it back."""
        if self._room is not None:
            self.shrink(0)
            self._room = None


class AnswersOut:
    """Room for the answers of one server, large ones only. To be used on the event loop.

    `total_bytes`: memory of answers that are being written or made. As many bytes again may wait to be written, for
    `patience_s` seconds. `unread_s`: how long a write lasts at least before it is ended for others.
    """

    def __init__(self, total_bytes: int, *, patience_s: float, unread_s: float = UNREAD_S) -> None:
        small = total_bytes // _SMALL_PART
        self._small, self._large, self._most_small = Budget(small), Budget(total_bytes - small), small // _AT_A_TIME
        self.total_bytes, self._patience_s, self._unread_s = total_bytes, patience_s, unread_s
        # By age.
        self._writes: dict[_Write, None] = {}
        self._waiting = self._waiting_bytes = 0

    @property
    def held(self) -> int:
        """Bytes of answers that are here; copies are counted once."""
        return self._waiting_bytes + sum(one.bytes for one in self._writes)

    @property
    def waiting(self) -> bool:
        """True while an answer, or a call that is to make one, waits for room."""
        return self._waiting > 0

    @property
    def writing(self) -> bool:
        """True while an answer is being written."""
        return bool(self._writes)

    async def reserve(self, place: AnswerRoom, most_bytes: int) -> None:
        """Take room for an answer that is to be made. Raises NoRoomError where others have waited for long."""
        if not place.bytes:
            await self._take(place, _MADE * most_bytes)

    async def begin(self, place: AnswerRoom, size: int, end: Callable[[], object]) -> Callable[[], None]:
        """Wait for room to write an answer of `size` bytes, which counts from then on.

        `end` ends the connection it goes to. Return what is to be called when it is written, or never will be. Raises
        NoRoomError where others have waited for long, or too many do.
        """
        if place.bytes < min(_WRITTEN * size, self.total_bytes // _SMALL_PART):
            # Nobody waits for room with room in his hands.
            place.leave()
            if self._waiting_bytes and self._waiting_bytes + size > self.total_bytes:
                raise NoRoomError
            self._waiting_bytes += size
            try:
                await self._take(place, _WRITTEN * size)
            finally:
                self._waiting_bytes -= size
        place.shrink(_WRITTEN * size)
        left, one = place.handed_on(), _Write(size, end)
        self._writes[one] = None

        def over() -> None:
            del self._writes[one]
            left.leave()

        return over

    async def send(
        self, place: AnswerRoom, size: int, write: Callable[[], Awaitable[None]], end: Callable[[], object]
    ) -> None:
        """Write an answer of `size` bytes in its place, or once there is room. Raises as `begin` does."""
        over = await self.begin(place, size, end)

        def done(writing: asyncio.Future[None]) -> None:
            over()
            # What went wrong is told to the call, which may be over.
            if not writing.cancelled():
                writing.exception()

        # A call that is cancelled leaves its write behind: a task of its own, with the room that it holds.
        writing = asyncio.ensure_future(write())
        writing.add_done_callback(done)
        # Not by `shield`, which since Python 3.14 logs an error of what was left behind.
        await asyncio.wait((writing,))
        writing.result()

    async def _take(self, place: AnswerRoom, size: int) -> None:
        room = self._small if size <= self._most_small else self._large
        if (free := room.take_free(size)) is not None:
            place.fill(room, free)
            return
        self._waiting += 1
        try:
            async with asyncio.timeout(self._patience_s):
                taken = await room.take(size)
        except TimeoutError:
            raise NoRoomError from None
        finally:
            self._waiting -= 1
        place.fill(room, taken)

    def end_unread(self, *, older_s: float | None = None) -> bool:
        """End the connection of the oldest write that has lasted long enough; tell whether there was one."""
        before = asyncio.get_running_loop().time() - (self._unread_s if older_s is None else older_s)
        oldest = next((one for one in self._writes if not one.ended), None)
        if oldest is None or oldest.begun > before:
            return False
        oldest.ended = True
        oldest.end()
        return True
