"""Bounds for the messages of one server: those that arrive, are worked on, or are not yet taken by callers.

gRPC tells how large a message is only when all of it is here, and it takes in whatever was asked for. So asking is
bounded. Each read gets a short time to itself, in which nearly every message arrives; a few reads have theirs at the
same time. A read that lasts longer is counted with all the bytes that it may still bring. Where such reads may bring
too much together, the oldest is given up, or else the new one. A message that is here waits until there is room to work
on it. Before its message is asked for, a call costs its flow-control window and no more. For answers see unread.py.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from lensmesh_chassis.concurrency import Budget, WaitingLine
from lensmesh_chassis.errors import Overloaded
from lensmesh_chassis.messages.unread import UNREAD_S, AnswerRoom, AnswersOut, NoRoomError
from lensmesh_chassis.reasons import Reason

T = TypeVar("T")

SMALL_BYTES = 64 * 1024
"""Messages below it are worked on at once: the bound of calls bounds them."""

# Reads that have their moment at the same time, and how long it lasts.
_QUICK = 3
_QUICK_S = 0.05
# More for one that may have to be given up.
_GRACE_S = 0.2
# Reads and writes younger than that are not given up for others.
_SLOW_S = 2.0
# What a stream waits for counts by the largest message that it has brought: most streams bring nothing just now.
_STREAM_SHARE = 8
_TICK_S = 0.1
_SOFT, _HARD = 0.6, 0.85
_TRIM_EVERY_S = 1.0


class _Transfer:
    """A message on its way in. `bytes`: what it may still bring, counted once the read has lasted."""

    __slots__ = ("begun", "bytes", "given_up", "task")

    def __init__(self, size: int, begun: float) -> None:
        self.task, self.begun = asyncio.current_task(), begun
        self.bytes, self.given_up = size, False

    def give_up(self) -> None:
        if self.task is not None and not self.given_up:
            self.given_up = True
            self.task.cancel()


class MessageBudget:
    """Budget for the bytes of one server's messages. To be used on the event loop.

    `total_bytes`: messages that are worked on, of all calls. `message_bytes`: the largest message. `lasting_bytes`:
    what reads that last may bring, together. `answer_bytes`: memory of answers that callers have not taken yet.
    `memory_bytes`: what the process may use, 0 for any; `resident` tells what it uses, and `trim` gives back what is
    free. `patience_s`: a call is refused if its message has not arrived by then, or its answer has no room. `slow_s`:
    how long a read or write has to last before it is given up for others while memory is short. `unread_s`: the same of
    a write that others wait for.
    """

    def __init__(
        self,
        total_bytes: int,
        *,
        message_bytes: int,
        lasting_bytes: int = 0,
        answer_bytes: int = 0,
        memory_bytes: int = 0,
        resident: Callable[[], int] = lambda: 0,
        trim: Callable[[], None] = lambda: None,
        patience_s: float = 5.0,
        slow_s: float = _SLOW_S,
        unread_s: float = UNREAD_S,
    ) -> None:
        self.total, self._message, self._patience_s = total_bytes, message_bytes, patience_s
        self._slow_s = slow_s
        self._lasting = lasting_bytes or 4 * message_bytes
        self._memory, self._resident, self._trim = memory_bytes, resident, trim
        self._trimmed = 0.0
        self.work = Budget(total_bytes, self._is_short)
        self._answers = AnswersOut(answer_bytes or 8 * message_bytes, patience_s=patience_s, unread_s=unread_s)
        self._lines: defaultdict[str, WaitingLine] = defaultdict(lambda: WaitingLine(lambda _: self._end_moment()))
        # Reads that have their moment or, woken just now, are about to; and calls that wait for theirs.
        self._quick = self._waiting = 0
        # Bytes of messages that are here and wait to be worked on.
        self._queued = 0
        self._queued_by: defaultdict[str, int] = defaultdict(int)
        # By age: all, those that have their moment, and those whose moment has passed, which count by what they may
        # bring.
        self._transfers: dict[_Transfer, None] = {}
        self._fresh: dict[_Transfer, None] = {}
        self._slow: dict[_Transfer, None] = {}
        # One timer for the moments of all reads: hardly any lasts as long, and setting one for each would cost more
        # than the rest.
        self._moment: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.refused = 0
        """Calls that waited for room in vain, or came too slowly for it."""
        self.given_up = 0
        """Reads and writes that ended because memory was short, and writes that did for others."""

    @property
    def held(self) -> int:
        """Bytes that are here: worked on, waiting, or not taken by callers."""
        return self.work.held + self._queued + self._answers.held

    async def receive(
        self, method: str, read: Callable[[], Awaitable[T]], *, largest: int | None = None, patient: bool = False
    ) -> T:
        """Return what `read` reads. The read begins when there is room for it.

        `largest`: bytes of the largest message that came on this stream so far, None before the first. `patient`: wait
        as long as it takes, for callers that hold nothing meanwhile. Raises Overloaded (OVERLOADED).
        """
        if (self._waiting and self._lines[method]) or not self._may_begin(method):
            await self._turn(method, patient=patient)
        else:
            self._quick += 1
        loop = asyncio.get_running_loop()
        transfer = _Transfer(self._message if largest is None else largest // _STREAM_SHARE, loop.time())
        self._transfers[transfer] = self._fresh[transfer] = None
        if self._moment is None:
            self._moment = loop.call_later(_QUICK_S, self._end_moments)
        if self._memory:
            self._keep_looking()
        try:
            return await read()
        except asyncio.CancelledError:
            task = transfer.task
            if transfer.given_up and task is not None and task.uncancel() == 0:
                raise self._full() from None
            raise
        finally:
            del self._transfers[transfer]
            if transfer in self._fresh:
                del self._fresh[transfer]
                self._end_moment()
            else:
                del self._slow[transfer]

    def account(self, method: str) -> "CallAccount":
        """Open the account of one call's messages. Leaving it gives back all that it took."""
        return CallAccount(self, method)

    async def enter(self, method: str, size: int, *, patient: bool) -> int:
        """Wait for room to work on a message of `size` bytes. Return how many bytes must be given back to `work`."""
        if (free := self.work.take_free(size)) is not None:
            return free
        if self._memory:
            self._keep_looking()
        with self._queueing(method, size):
            try:
                async with asyncio.timeout(None if patient else self._patience_s):
                    return await self.work.take(size)
            except TimeoutError:
                self.refused += 1
                raise self._full() from None

    async def reserve(self, place: AnswerRoom, most_bytes: int) -> None:
        """Take room for an answer of at most `most_bytes`, before it is made. Raises Overloaded where there is none."""
        if most_bytes >= SMALL_BYTES:
            self._keep_looking()
            try:
                await self._answers.reserve(place, min(most_bytes, self._message))
            except NoRoomError:
                self.refused += 1
                raise self._no_answer_room() from None

    async def begin_answer(self, size: int, place: AnswerRoom, end: Callable[[], object]) -> Callable[[], None]:
        """Wait for room to write a large answer, of `size` bytes. Raises Overloaded (OVERLOADED) where there is none.

        `place`: what was reserved for it. `end` ends the connection, where the answer is not taken while others wait
        or memory is short. Return what is to be called when the answer is written, or never will be.
        """
        self._keep_looking()
        try:
            return await self._answers.begin(place, size, end)
        except NoRoomError:
            self.refused += 1
            raise self._no_answer_room() from None

    async def send(self, size: int, write: Callable[[], Awaitable[None]], end: Callable[[], object]) -> None:
        """Write a large answer once there is room. Raises Overloaded (OVERLOADED) where there is none."""
        self._keep_looking()
        try:
            await self._answers.send(AnswerRoom(), size, write, end)
        except NoRoomError:
            self.refused += 1
            raise self._no_answer_room() from None

    @contextmanager
    def _queueing(self, method: str, size: int) -> Iterator[None]:
        self._queued += size
        self._queued_by[method] += size
        try:
            yield
        finally:
            self._queued -= size
            self._queued_by[method] -= size
            self._let_on()

    def _may_begin(self, method: str) -> bool:
        """Tell whether a call of `method` may read now.

        Large calls of one method do not stop those of another: each method has room as long as none of its own calls
        waits.
        """
        return self._quick < _QUICK and (self._queued < self._message or not self._queued_by[method])

    async def _turn(self, method: str, *, patient: bool) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(None if patient else self._patience_s):
                await self._lines[method].wait()
        except TimeoutError:
            self.refused += 1
            raise self._full() from None
        finally:
            self._waiting -= 1

    def _end_moment(self) -> None:
        self._quick -= 1
        if self._waiting:
            self._let_on()

    def _end_moments(self) -> None:
        """End the moment of the reads that have lasted, and look again when that of the next one ends."""
        loop, self._moment = asyncio.get_running_loop(), None
        for one in list(self._fresh):
            ends = one.begun + _QUICK_S
            if ends > loop.time():
                self._moment = loop.call_at(ends, self._end_moments)
                return
            del self._fresh[one]
            self._slow[one] = None
            self._end_moment()
            self._make_room(one)

    def _let_on(self) -> None:
        """Wake the call that waits longest of each method in turn, as far as there is room."""
        woken = True
        while woken:
            woken = False
            for method, line in list(self._lines.items()):
                if line and self._may_begin(method):
                    # The others come first next time.
                    self._lines[method] = self._lines.pop(method)
                    self._quick += 1
                    line.wake()
                    woken = True

    def _make_room(self, late: _Transfer) -> None:
        """Count a read that lasts. Where all of these may bring too much, give up the oldest, or else this one."""
        before = asyncio.get_running_loop().time() - self._slow_s
        for one in list(self._slow):
            if self._slow_bytes() > self._lasting and one.begun < before:
                self._refuse(one)
        # A read that is only told late of its message, by a loop that had other work, gets the time to be told.
        asyncio.get_running_loop().call_later(_GRACE_S, self._give_up_if_too_much, late)

    def _give_up_if_too_much(self, late: _Transfer) -> None:
        older = 0
        for one in self._slow:
            if one is late:
                if older and older + late.bytes > self._lasting:
                    self._refuse(late)
                return
            older += 0 if one.given_up else one.bytes

    def _refuse(self, one: _Transfer) -> None:
        one.give_up()
        self.refused += 1

    def _slow_bytes(self) -> int:
        return sum(one.bytes for one in self._slow if not one.given_up)

    def _keep_looking(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._look)

    def _look(self) -> None:
        """End writes that others wait for; while memory is short, give back what is free, and end the oldest."""
        self._timer = None
        if (self._answers.waiting or any(self._lines.values())) and self._answers.end_unread():
            self.given_up += 1
        if self._memory:
            self._look_at_memory()
            # Memory may be short no longer, and who waits for that is woken by nobody else.
            self.work.hand_out()
        if (self._memory and (self._transfers or self._queued)) or self._answers.writing or self._answers.waiting:
            self._keep_looking()

    def _is_short(self) -> bool:
        """Tell whether memory is so short that the largest messages are worked on one at a time.

        What one is made into takes several times its bytes, for a while.
        """
        return self._memory > 0 and self._resident() > self._memory * _HARD

    def _look_at_memory(self) -> None:
        now, used = asyncio.get_running_loop().time(), self._resident()
        if used > self._memory * _SOFT and now > self._trimmed + _TRIM_EVERY_S:
            self._trimmed = now
            # It takes a while, and needs no Python.
            asyncio.get_running_loop().run_in_executor(None, self._trim)
        if used > self._memory * _HARD:
            old = [one for one in self._transfers if one.begun < now - self._slow_s and not one.given_up]
            for one in old[: len(old) // 4 + 1]:
                one.give_up()
                self.given_up += 1
            if self._answers.end_unread(older_s=self._slow_s):
                self.given_up += 1

    def _no_answer_room(self) -> Overloaded:
        limit = self._answers.total_bytes
        return Overloaded(
            Reason.OVERLOADED,
            f"the answers that are made and sent now fill the {limit} bytes that there are for answers: send the call "
            "again later, ask for fewer items, or ask another replica",
            metadata={"held_bytes": self.held, "limit_bytes": limit},
        )

    def _full(self) -> Overloaded:
        return Overloaded(
            Reason.OVERLOADED,
            f"the calls that are here hold {self.held} bytes, the service works on {self.total} at a time, and others "
            "wait for room: send the call again later, or to another replica",
            metadata={"held_bytes": self.held, "limit_bytes": self.total},
        )


class CallAccount:
    """The message that one call works on, and its room in the budget."""

    __slots__ = ("_budget", "_method", "_taken")

    def __init__(self, budget: MessageBudget, method: str) -> None:
        self._budget, self._method, self._taken = budget, method, 0

    def __enter__(self) -> "CallAccount":
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()

    async def work_on(self, size: int, *, patient: bool = False) -> None:
        """Take room for a message that is here, unless it is small. Raises Overloaded where there is none in time."""
        if size >= SMALL_BYTES:
            self._taken = await self._budget.enter(self._method, size, patient=patient)

    def drop(self) -> None:
        """Give back the room of the message: it is done with."""
        taken, self._taken = self._taken, 0
        if taken:
            self._budget.work.give(taken)
