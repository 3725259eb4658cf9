"""A pool of connections whose waits are bounded, and which uses those it has where no more can be opened.

asyncpg's own pool lets a caller wait for a connection that cannot be opened while others lie idle. It resets each
connection over the network although our settings end with their transaction. And it logs an error where that reset
finds a transaction.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable

import asyncpg

# Once opening failed while others work, for so long nobody tries again.
_PAUSE_S = 1.0
_IDLE_S = 300.0


class Pool:
    """Up to `size` connections, opened as they are needed. The only thing that callers wait for is a connection.

    Args:
        open_connection: opens one, within a time of its own.
        size: most connections at a time.
    """

    def __init__(self, open_connection: Callable[[], Awaitable[asyncpg.Connection]], *, size: int) -> None:
        self._open_connection = open_connection
        self._size = size
        self._idle: list[tuple[asyncpg.Connection, float]] = []
        self._used: dict[asyncpg.Connection, int] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[asyncio.Future[asyncpg.Connection]] = deque()
        self._generation = 0
        self._not_before = float("-inf")
        self._closed = False
        self._drained = asyncio.Event()
        self.failure: BaseException | None = None
        """Error of the last try to open a connection; None once one succeeded."""

    @property
    def size(self) -> int:
        """Connections that are open now."""
        return len(self._idle) + len(self._used)

    def take(self) -> asyncpg.Connection | None:
        """Take an idle connection, if there is one. Give it back by `release`."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection, since = self._idle.pop()
            if connection.is_closed() or now - since > _IDLE_S:
                connection.terminate()
                continue
            self._used[connection] = self._generation
            return connection
        return None

    async def acquire(self) -> asyncpg.Connection:
        """Take a connection. Give it back by `release`.

        Raises what opening raised, where no open connection could become free.
        """
        if (idle := self.take()) is not None:
            return idle
        if self._closed:
            raise asyncpg.InterfaceError("the pool is closed")
        waiter: asyncio.Future[asyncpg.Connection] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._open_more()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.release(waiter.result())
            raise
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def release(self, connection: asyncpg.Connection) -> None:
        """Give back a connection outside of any transaction. It is dropped if it is closed or from before `expire`."""
        current = self._used.pop(connection, None) == self._generation
        if self._closed or not current or connection.is_closed() or connection.is_in_transaction():
            connection.terminate()
            self._open_more()
        else:
            self._hand(connection)
        if not self._used:
            self._drained.set()

    def expire(self) -> None:
        """Close every connection: idle ones now, those in use when they are given back."""
        self._generation += 1
        while self._idle:
            self._idle.pop()[0].terminate()

    async def close(self, timeout_s: float) -> None:
        """Close everything; what is still in use after `timeout_s` seconds is cut off."""
        self._closed = True
        for task in self._opening:
            task.cancel()
        if self._opening:
            await asyncio.wait(self._opening)
        self._fail_waiting(asyncpg.InterfaceError("the pool is closed"))
        if self._used:
            self._drained.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._drained.wait()
        for connection in list(self._used):
            connection.terminate()
        idle = [connection for connection, _ in self._idle]
        self._idle.clear()
        await asyncio.gather(*(c.close(timeout=timeout_s) for c in idle), return_exceptions=True)

    def _open_more(self) -> None:
        """Open a connection for each caller who waits, as far as there is room."""
        if self._closed:
            return
        if self.size and asyncio.get_running_loop().time() < self._not_before:
            return
        while len(self._opening) < len(self._waiting) and self.size + len(self._opening) < self._size:
            task = asyncio.create_task(self._open_one())
            self._opening.add(task)
            task.add_done_callback(self._opened)

    async def _open_one(self) -> None:
        generation = self._generation
        try:
            connection = await self._open_connection()
        except Exception as error:  # noqa: BLE001 - told to those who wait for it
            self.failure = error
            self._not_before = asyncio.get_running_loop().time() + _PAUSE_S
            return
        self.failure = None
        if self._closed or generation != self._generation:
            connection.terminate()
        else:
            self._hand(connection)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        if self.failure is not None and not self.size and not self._opening:
            # Nothing is left that could come free.
            self._fail_waiting(self.failure)
        elif self.failure is None:
            self._open_more()

    def _hand(self, connection: asyncpg.Connection) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._used[connection] = self._generation
                waiter.set_result(connection)
                return
        self._idle.append((connection, asyncio.get_running_loop().time()))

    def _fail_waiting(self, error: BaseException) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(error)
