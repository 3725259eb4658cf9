"""Connections: one pool, one transaction a call, its deadline known to the server too."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
from pgvector.asyncpg import register_vector

from lensmesh_chassis.errors import Unavailable
from search_svc.postgres.faults import Collision, translated
from search_svc.postgres.migrations import Ready, prepare, schema_version
from search_svc.postgres.steps import STEPS
from search_svc.refusals import too_late, unavailable
from search_svc.store import StoreRefused

T = TypeVar("T")
_ATTEMPTS = 4
# Beyond the server's own statement timeout: a server that does not even answer that is taken for gone.
_GRACE_S = 0.5
_SETTINGS = {
    "application_name": "lensmesh-search",
    # Filters, indexes on expressions and limits are planned by their real values; compiling costs more than it brings.
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
    "TimeZone": "UTC",
}


class Database:
    """A pool that outlives the database: connections are made as needed and lost ones replaced.

    Args:
        url: postgresql://...; never shown.
        pool_size: most connections at a time.
        connect_s: how long one connection may take to open, in seconds.
    """

    def __init__(self, url: str, *, pool_size: int, connect_s: float) -> None:
        self._url = url
        self._pool_size = pool_size
        self._connect_s = connect_s
        self._pool: asyncpg.Pool | None = None
        self._watch: asyncpg.Connection | None = None
        self.ready: Ready | None = None

    async def open(self) -> None:
        """Prepares the database, and the pool where there is none yet. See `Store.open`."""
        await self._forget_watch()
        with translated():
            connection = await self._connect()
            try:
                self.ready = await prepare(connection, STEPS)
            finally:
                await connection.close(timeout=self._connect_s)
        if self._pool is None:
            self._pool = await self._make_pool(self.ready.vector_schema)

    async def check(self) -> None:
        """One small query over a connection of its own, so that a busy pool does not look like a lost database."""
        try:
            with translated():
                async with asyncio.timeout(self._connect_s):
                    if self._watch is None or self._watch.is_closed():
                        self._watch = await self._connect()
                    version = await schema_version(self._watch)
        except Unavailable:
            await self._forget_watch()
            raise
        if self.ready is None or version != STEPS[-1].version:
            # Emptied, restored or migrated by another release behind our back.
            await self.open()

    async def close(self) -> None:
        """Closes what is open; calls in flight are cut off after a second."""
        await self._forget_watch()
        if self._pool is not None:
            try:
                async with asyncio.timeout(1.0):
                    await self._pool.close()
            except TimeoutError:
                self._pool.terminate()
            self._pool = None

    async def run(
        self,
        work: Callable[[asyncpg.Connection], Awaitable[T]],
        *,
        timeout_s: float,
        write: bool = False,
        settings: str = "",
    ) -> T:
        """Does `work` in one transaction; reads see one moment, writes are durable when this returns.

        `settings` are SET LOCAL statements of our own making. Work that collided with another is done again.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        for attempt in range(_ATTEMPTS):
            try:
                with translated():
                    return await self._attempt(work, deadline, write, settings)
            except Collision:
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    async def _attempt(
        self, work: Callable[[asyncpg.Connection], Awaitable[T]], deadline: float, write: bool, settings: str
    ) -> T:
        if self._pool is None:
            raise unavailable("the database has not been reached yet")
        connection: asyncpg.Connection | None = None
        try:
            async with asyncio.timeout_at(deadline + _GRACE_S) as scope:
                connection = await self._pool.acquire()
                left_ms = int(1000 * (deadline - asyncio.get_running_loop().time()))
                if left_ms <= 0:
                    raise too_late()
                # One round trip. Our own numbers only: no caller's value gets here.
                await connection.execute(f"{_begin(write)}; SET LOCAL statement_timeout = {left_ms}; {settings}")
                result = await work(connection)
                await connection.execute("COMMIT")
                return result
        except asyncpg.QueryCanceledError:
            raise too_late() from None
        except TimeoutError:
            if connection is not None:
                # It did not answer the server-side timeout: waiting for it to cancel would take as long again.
                connection.terminate()
            if scope.expired():
                raise too_late() from None
            raise unavailable("the database does not answer") from None
        finally:
            if connection is not None:
                await self._pool.release(connection, timeout=self._connect_s)

    async def _connect(self) -> asyncpg.Connection:
        try:
            return await asyncpg.connect(self._url, timeout=self._connect_s, server_settings=_SETTINGS)
        except ValueError:
            # The driver's text would show parts of the URL.
            raise StoreRefused(
                "the store URL cannot be read: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
            ) from None

    async def _make_pool(self, vector_schema: str) -> asyncpg.Pool:
        async def init(connection: asyncpg.Connection) -> None:
            await register_vector(connection, schema=vector_schema)

        search_path = f'lensmesh, "{vector_schema}"'
        return await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=self._pool_size,
            timeout=self._connect_s,
            init=init,
            server_settings={**_SETTINGS, "search_path": search_path},
        )

    async def _forget_watch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None and not watch.is_closed():
            watch.terminate()


def _begin(write: bool) -> str:
    if not write:
        return "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    # Durable before it is acknowledged, even on a server that is set up for speed; never weaker than that server's own.
    return (
        "BEGIN ISOLATION LEVEL READ COMMITTED;"
        " SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
    )
