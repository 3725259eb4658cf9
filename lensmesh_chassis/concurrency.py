"""Waiting in order: for one's turn, and for room of a bounded number of bytes."""

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final

# The part of a budget that is given out while memory is short.
_SHORT_PART: Final = 8


class WaitingLine:
    """Callers in the order in which they came. To be used on the event loop.

    A caller that is woken has been given its turn, and with it what the line gives out. `give_back(size)` is called
    with the turn of a caller that was cancelled after it was woken and before it ran; `size` is what that caller asked
    for.
    """

    def __init__(self, give_back: Callable[[int], None]) -> None:
        self._give_back = give_back
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def __len__(self) -> int:
        return sum(not turn.done() for _, turn in self._waiting)

    def __bool__(self) -> bool:
        return self.first is not None

    @property
    def first(self) -> int | None:
        """The size of the caller that waits longest; None where nobody waits."""
        # A caller that was cancelled takes itself out only when it runs.
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()
        return self._waiting[0][0] if self._waiting else None

    async def wait(self, size: int = 0) -> None:
        """Wait until this caller is woken."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._give_back(size)
            raise

    def wake(self) -> None:
        """Wake the caller that waits longest. There must be one."""
        _, turn = self._waiting.popleft()
        turn.set_result(None)


class Budget:
    """Bytes that may be held at a time.

    They are given out in the order of asking. A request for more than the whole budget gets all of it. While `is_short`
    says so, an eighth of the budget is given out, and a request for more than that has its bytes alone.
    """

    def __init__(self, total: int, is_short: Callable[[], bool] = lambda: False) -> None:
        self._total = total
        self._free = total
        self._is_short = is_short
        self._line = WaitingLine(self.give)

    @property
    def held(self) -> int:
        """Bytes that are given out."""
        return self._total - self._free

    def share(self) -> "Share":
        """Open the account of one stream."""
        return Share(self)

    def take_free(self, size: int) -> int | None:
        """Take `size` bytes if nobody has to wait for them. Return how many must be given back; None: they are held."""
        size = min(size, self._total)
        if self._line or not self._has(size):
            return None
        self._free -= size
        return size

    async def take(self, size: int) -> int:
        """Wait for `size` bytes. Return how many were really taken: that many must be given back."""
        if (taken := self.take_free(size)) is not None:
            return taken
        size = min(size, self._total)
        try:
            await self._line.wait(size)
        except asyncio.CancelledError:
            # Whoever stood behind this caller may have room.
            self.hand_out()
            raise
        return size

    def give(self, size: int) -> None:
        """Return bytes."""
        self._free += size
        self.hand_out()

    def hand_out(self) -> None:
        """Give waiting requests what there is for them. Call it where `is_short` may say something else than before."""
        while (size := self._line.first) is not None and self._has(size):
            self._free -= size
            self._line.wake()

    def _has(self, size: int) -> bool:
        if size > self._free:
            return False
        return not self.held or self.held + size <= self._total // _SHORT_PART or not self._is_short()


class Share:
    """Bytes that one stream holds of a budget. Leaving it gives everything back, whatever happened to its items."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held = 0

    async def __aenter__(self) -> "Share":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        held, self._held = self._held, 0
        self._budget.give(held)

    async def take(self, size: int) -> int:
        """Do as `Budget.take` does, and count the bytes for this stream."""
        taken = await self._budget.take(size)
        self._held += taken
        return taken

    def give(self, taken: int) -> None:
        """Give back what one item took."""
        given = min(taken, self._held)
        self._held -= given
        self._budget.give(given)
