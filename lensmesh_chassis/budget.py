"""One budget of bytes for all streams, so that many callers together cannot fill the memory."""

import asyncio
from collections import deque
from types import TracebackType


class Budget:
    """Bytes that may be held at a time. Whoever asked first gets first; one larger than everything gets all of it."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def held(self) -> int:
        """Bytes that are given out."""
        return self._total - self._free

    def share(self) -> "Share":
        """One stream's account."""
        return Share(self)

    async def take(self, size: int) -> int:
        """Waits for `size` bytes and returns what was really taken, to be given back."""
        size = min(size, self._total)
        if not self._queue and size <= self._free:
            self._free -= size
            return size
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(size)
            else:
                self._queue.remove((size, turn))
                self._hand_out()
            raise
        return size

    def give(self, size: int) -> None:
        """Returns bytes."""
        self._free += size
        self._hand_out()

    def _hand_out(self) -> None:
        while self._queue and (self._queue[0][1].cancelled() or self._queue[0][0] <= self._free):
            size, turn = self._queue[0]
            if turn.cancelled():
                # Its owner takes it out of the queue.
                return
            self._queue.popleft()
            self._free -= size
            turn.set_result(None)


class Share:
    """What one stream holds of a budget; leaving it gives everything back, whatever happened to its items."""

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
        """As Budget.take."""
        taken = await self._budget.take(size)
        self._held += taken
        return taken

    def give(self, taken: int) -> None:
        """Gives back what one item took."""
        given = min(taken, self._held)
        self._held -= given
        self._budget.give(given)
