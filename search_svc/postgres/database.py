"""Transactions, one for each call, and statements that need none. And checks whether the database can be used.

The server knows the deadline of each: a transaction carries it, and a single statement is cancelled at it, and as soon
as its caller leaves. So no work goes on for a caller that has given up.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from typing import TypeVar

import asyncpg

from lensmesh_chassis.errors import DeadlineExceeded, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry.logging import get_logger
from search_svc.postgres.addresses import READS_ONLY, servers
from search_svc.postgres.connecting import STATEMENT_S, Connector
from search_svc.postgres.faults import Collision, translated
from search_svc.postgres.migrations import PreparedDatabase, prepare, schema_version
from search_svc.postgres.pool import Pool
from search_svc.postgres.steps import STEPS
from search_svc.refusals import read_only, too_late, unavailable
from search_svc.stalls import Stalls
from search_svc.store import StoreRefused

_log = get_logger(__name__)
T = TypeVar("T")
_ATTEMPTS = 30
# Longest pause after a collision; the first is a hundredth of it. By chance, or the same two would meet again.
_LONGEST_PAUSE_S = 0.25
# Beyond the server's own statement timeout: a server that does not even answer that is taken for gone.
_GRACE_S = 0.5
_ROLLBACK_S = 1.0
_CLOSE_S = 1.0
# Older ones have known faults: CVE-2026-3172, and an index that loses rows.
_GOOD_PGVECTOR = (0, 8, 4)
_HAS_TRANSACTION_TIMEOUT = 17


class Database:
    """A pool that outlives failures of the database: connections are made as needed and lost ones replaced.

    Args:
        url: postgresql://..., with one host or several; never shown.
        pool_size: most connections at a time.
        connect_s: how long one connection may take to open, in seconds.
        idle_s: how long the database waits for the next word of a transaction before it ends it, in seconds.
        settings: what every session has besides its own.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int,
        connect_s: float,
        idle_s: float,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._url = url
        self._connect_s = connect_s
        self._idle_s = idle_s
        self._connector = Connector(url, connect_s=connect_s, settings=settings)
        self._pool_size = pool_size
        self._pool = Pool(self._connector.open_for_vectors, size=pool_size)
        self._stalls = Stalls(idle_s)
        self._settling: set[asyncio.Task[None]] = set()
        self._watch: asyncpg.Connection | None = None
        self._has_transaction_timeout = False
        self.ready: PreparedDatabase | None = None
        self.write_trouble: LensmeshError | None = None
        """Error that makes writes fail while reads work: database read-only, or its disk full. None: they work."""

    async def open(self) -> None:
        """Prepare the database. See `Store.open`."""
        self._stalls.start()
        await self._forget_watch()
        with translated():
            connection = await self._connector.open()
            try:
                # In a transaction: a pooler would take another server for each statement.
                async with connection.transaction():
                    ready = await prepare(connection, STEPS)
            finally:
                await connection.close(timeout=self._connect_s)
        self._has_transaction_timeout = connection.get_server_version().major >= _HAS_TRANSACTION_TIMEOUT
        if self._connector.vector_schema != ready.vector_schema:
            self._connector.vector_schema = ready.vector_schema
            self._pool.expire()
        if self.ready != ready:
            _warn_of_old(ready.pgvector)
        self.ready = ready
        await self.check()

    async def check(self) -> None:
        """Run one small query over a connection of its own, so that a busy pool does not look like a lost database."""
        try:
            with translated():
                async with asyncio.timeout(self._connect_s):
                    if self._watch is None or self._watch.is_closed():
                        self._watch = await self._connector.open()
                    async with self._watch.transaction():
                        is_read_only = await self._watch.fetchval("SHOW transaction_read_only") == "on"
                        version = await schema_version(self._watch)
        except LensmeshError:
            await self._forget_watch()
            # To a server that went away, or is another one now. Calls under way end by themselves.
            self._pool.expire()
            raise
        await self._notice_read_only(is_read_only)
        if self.ready is None or version != STEPS[-1].version:
            # Emptied, restored or migrated by another release behind our back.
            self.ready = None
            await self.open()
        elif self._pool.failure is not None and not self._pool.size:
            # Callers got no connection: what they would get now is what counts.
            try:
                self._pool.release(await self._acquire(asyncio.get_running_loop().time() + 2 * self._connect_s))
            except DeadlineExceeded:
                raise unavailable("the database gives no connection in time") from None

    async def close(self) -> None:
        """Close what is open; calls in flight are cut off after a second."""
        self._stalls.stop()
        await self._forget_watch()
        await self._pool.close(_CLOSE_S)

    @property
    def is_pooled(self) -> bool:
        """True where a pooler stands between: nothing may be set for a session then."""
        return self._connector.pooled

    async def connect(self) -> asyncpg.Connection:
        """Open a connection beside the pool, for what takes longer than a call. The caller ends it."""
        return await self._connector.open()

    async def run(
        self,
        work: Callable[[asyncpg.Connection], Awaitable[T]],
        *,
        timeout_s: float,
        write: bool = False,
        single: bool = False,
    ) -> T:
        """Do `work` in one transaction: reads see one moment, writes are durable when this returns.

        Work that collided with another transaction is done again. No write is committed after `timeout_s`, nor by a
        process that stood still in between, whatever it held. `single` says that the work is one statement that reads:
        it is a transaction by itself, and nothing else is said to the server.
        """
        begun = asyncio.get_running_loop().time()
        for attempt in range(_ATTEMPTS):
            try:
                with translated():
                    return await self._attempt(work, begun, begun + timeout_s, write, single)
            except Collision:
                pause_s = random.uniform(0.0, _LONGEST_PAUSE_S * min(1.0, 2**attempt / 100))
                if attempt == _ATTEMPTS - 1 or asyncio.get_running_loop().time() + pause_s > begun + timeout_s:
                    raise
                await asyncio.sleep(pause_s)
            except LensmeshError as error:
                if write and error.reason in (Reason.STORE_READ_ONLY, Reason.STORE_FULL):
                    self.write_trouble = error
                raise
        raise AssertionError("unreachable")

    async def _attempt(
        self,
        work: Callable[[asyncpg.Connection], Awaitable[T]],
        begun: float,
        deadline: float,
        write: bool,
        single: bool,
    ) -> T:
        if self.ready is None:
            raise unavailable("the database has not been reached yet, or is not prepared")
        connection = await self._acquire(deadline)
        alone, breaks_off = single and self._may_be_alone(deadline), False
        try:
            async with asyncio.timeout_at(deadline if alone else deadline + _GRACE_S) as scope:
                if alone:
                    result = await work(connection)
                else:
                    await connection.execute(self._begin(write, deadline))
                    result = await work(connection)
                    await connection.execute(self._commit(write, begun, deadline))
        except asyncpg.QueryCanceledError:
            await _roll_back(connection)
            raise too_late() from None
        except asyncpg.DivisionByZeroError:
            await _roll_back(connection)
            if not write:
                raise
            raise too_late() from None
        except TimeoutError:
            # In a transaction it did not answer the server-side timeout: waiting for it to cancel would take as long.
            breaks_off = True
            if scope.expired():
                raise too_late() from None
            raise unavailable("the database does not answer") from None
        except asyncio.CancelledError:
            breaks_off = True
            raise
        except BaseException:
            await _roll_back(connection)
            raise
        finally:
            if breaks_off and alone:
                self._settle(connection)
            else:
                if breaks_off:
                    connection.terminate()
                self._pool.release(connection)
        if write:
            self.write_trouble = None
        return result

    def _settle(self, connection: asyncpg.Connection) -> None:
        """Give a connection back once the statement has ended that the driver has told the server to cancel.

        Nobody waits for that. A connection to a server that does not do so soon is closed.
        """

        async def settle() -> None:
            settled = False
            try:
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(_GRACE_S):
                        await connection.execute("SELECT")
                    settled = True
            finally:
                if not settled:
                    connection.terminate()
                self._pool.release(connection)

        # Outside of the call's trace, which ends before.
        task = asyncio.create_task(settle(), context=Context())
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _acquire(self, deadline: float) -> asyncpg.Connection:
        if (idle := self._pool.take()) is not None:
            return idle
        try:
            async with asyncio.timeout_at(deadline) as scope:
                return await self._pool.acquire()
        except StoreRefused as refused:
            raise unavailable(str(refused)) from None
        except TimeoutError:
            if not scope.expired():
                raise unavailable("the database does not give a connection in time") from None
            if self._pool.failure is not None:
                with translated():
                    raise self._pool.failure from None
            raise DeadlineExceeded(
                Reason.DEADLINE_EXCEEDED,
                f"all {self._pool_size} connections to the database were in use until the call's deadline: give it"
                " longer, or raise LENSMESH_SEARCH_POOL_SIZE",
            ) from None

    def _may_be_alone(self, deadline: float) -> bool:
        """Tell whether a statement needs no transaction around it: its session has all settings, and time enough."""
        return not self._connector.pooled and _left_ms(deadline) <= 1000 * STATEMENT_S

    def _begin(self, write: bool, deadline: float) -> str:
        """Return the statements that begin a transaction, for one round trip.

        They hold our own numbers only: no value of a caller gets here.
        """
        left_ms = _left_ms(deadline)
        if left_ms <= 0:
            raise too_late()
        limits = (
            f"SET LOCAL statement_timeout = {left_ms};"
            # A replica that is stopped, or lost its network, does not keep others from the items that it locked.
            f"SET LOCAL idle_in_transaction_session_timeout = {max(1, int(1000 * self._idle_s))};"
        )
        if self._has_transaction_timeout:
            # Later than the statement's, which leaves the connection usable.
            limits += f"SET LOCAL transaction_timeout = {left_ms + int(1000 * _GRACE_S)};"
        if not write:
            begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
        else:
            # Durable before it is acknowledged, even on a server that is set up for speed; never weaker than that
            # server's own.
            begin = (
                "BEGIN ISOLATION LEVEL READ COMMITTED;"
                "SELECT set_config('synchronous_commit', 'on', true)"
                " WHERE current_setting('synchronous_commit') = 'off';"
            )
        return begin + limits + self._connector.local_settings()

    def _commit(self, write: bool, begun: float, deadline: float) -> str:
        """Return the statements that end the transaction, but not after the deadline.

        This process may be stopped before they are sent. So the server compares its own clock with its transaction's
        begin, which is `now()` in all of its statements.
        """
        if not write:
            return "COMMIT"
        self._stalls.check(begun)
        left_ms = _left_ms(deadline)
        if left_ms <= 0:
            raise too_late()
        return f"SELECT 1 / (clock_timestamp() < now() + interval '{left_ms} ms')::int; COMMIT"

    async def _notice_read_only(self, is_read_only: bool) -> None:
        """Remember whether writes work, and leave a server that takes none: the next connection may find another."""
        if is_read_only and servers(self._url)[1] not in READS_ONLY:
            self.write_trouble = read_only()
            await self._forget_watch()
            self._pool.expire()
        elif self.write_trouble is not None and self.write_trouble.reason is Reason.STORE_READ_ONLY:
            self.write_trouble = None if not is_read_only else read_only()

    async def _forget_watch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None and not watch.is_closed():
            watch.terminate()


def _left_ms(deadline: float) -> int:
    return int(1000 * (deadline - asyncio.get_running_loop().time()))


async def _roll_back(connection: asyncpg.Connection) -> None:
    """End a transaction that failed. A connection that cannot do that is closed."""
    try:
        async with asyncio.timeout(_ROLLBACK_S):
            if connection.is_in_transaction():
                await connection.execute("ROLLBACK")
    except BaseException as error:
        connection.terminate()
        if isinstance(error, asyncio.CancelledError):
            raise


def _warn_of_old(pgvector: str) -> None:
    if tuple(int(part) for part in pgvector.split(".")[:3] if part.isdigit()) < _GOOD_PGVECTOR:
        _log.warning(
            "pgvector has known faults (CVE-2026-3172 among them): install 0.8.7 or newer on the database server, run"
            " ALTER EXTENSION vector UPDATE, then REINDEX the HNSW indexes (docs/stores.md)",
            pgvector=pgvector,
        )
