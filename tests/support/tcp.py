"""Servers on TCP whose connections end with them: asyncio leaves those open that a server has when it is closed."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

Serve: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class _Connection(asyncio.StreamReaderProtocol):
    """A connection that knows whether it has been made, and when it is lost."""

    def __init__(self, serve: Serve, tasks: "set[asyncio.Task[None]]") -> None:
        super().__init__(asyncio.StreamReader(), self._begin)
        self._serve, self._tasks = serve, tasks
        self.lost = asyncio.Event()
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        super().connection_made(transport)

    def abort(self) -> None:
        """End the connection, whatever is still to be sent."""
        assert isinstance(self.transport, asyncio.Transport)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost.set()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def served() -> None:
            await self._serve(reader, writer)

        self._tasks.add(asyncio.create_task(served()))


@asynccontextmanager
async def tcp_server(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Yield the port of a server that calls `serve` for each connection. Its errors are raised in the end."""
    connections: list[_Connection] = []
    tasks: set[asyncio.Task[None]] = set()

    def connection() -> _Connection:
        connections.append(_Connection(serve, tasks))
        return connections[-1]

    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        # What was accepted just now is made some turns of the loop later. A handshake that is going on ends by itself.
        for _ in range(4):
            await asyncio.sleep(0)
        made = [each for each in connections if each.transport is not None]
        for each in made:
            each.abort()
        await asyncio.gather(*(each.lost.wait() for each in made))
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception) and not isinstance(end, OSError):
            raise end
