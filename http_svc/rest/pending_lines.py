"""Lines of an answer that its client has not taken yet."""

import asyncio
from collections import deque

from lensmesh_chassis.errors import LensmeshError


class PendingLines:
    """Lines that the client has not taken yet: a client that first sends all of its body may leave some of them."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False
        self._error: LensmeshError | None = None

    async def put(self, line: bytes) -> None:
        """Add a line, once there is room."""
        while self._bytes and self._bytes + len(line) > self._most_bytes:
            self._room.clear()
            await self._room.wait()
        self._lines.append(line)
        self._bytes += len(line)
        self._changed.set()

    def end(self, error: LensmeshError | None) -> None:
        """Say that there are no more, and why."""
        self._ended, self._error = True, error
        self._changed.set()

    async def take(self) -> bytes:
        """Return all lines that are here; empty bytes at the end. Raises the error of the end, after all lines."""
        while not self._lines and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        taken = b"".join(self._lines)
        self._lines.clear()
        self._bytes = 0
        self._room.set()
        if not taken and self._error is not None:
            error, self._error = self._error, None
            raise error
        return taken
