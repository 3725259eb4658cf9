"""A way to cut, stop and swallow the connections to a store."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

See: TypeAlias = Callable[[asyncio.StreamReader, bytes], None]


class Proxy:
    """A TCP port in front of a PostgreSQL socket, that can drop, refuse or swallow what comes."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        # While False, bytes wait here: the other end seems to hang.
        self.flowing = asyncio.Event()
        self.flowing.set()

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Ends every connection and takes no new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        # What was accepted just now is known some turns of the loop later.
        for _ in range(4):
            await asyncio.sleep(0)
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Known before anything is waited for: a cut ends this connection too.
        self._writers.add(writer)
        try:
            to_reader, to_writer = await asyncio.open_unix_connection(self._target)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
            return
        self._writers.add(to_writer)
        if writer.transport.is_closing():
            to_writer.transport.abort()
            return
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(self._copy(reader, to_writer, self.from_client), self._copy(to_reader, writer))
        for one in (writer, to_writer):
            one.transport.abort()
            self._writers.discard(one)

    def from_client(self, reader: asyncio.StreamReader, data: bytes) -> None:
        """Sees what clients say, before the server does."""

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, see: See | None = None) -> None:
        while data := await reader.read(65536):
            if see is not None:
                see(reader, data)
            await self.flowing.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
