"""Opening of connections: to the right server of several, prepared for our statements, directly or through a pooler."""

import asyncio
import contextlib
import re
from collections.abc import Mapping, Sequence

import asyncpg
from pgvector.asyncpg import register_vector

from search_svc.postgres.addresses import BAD_URL, servers
from search_svc.refusals import no_pooled_connection, unavailable
from search_svc.store import StoreRefused

# What each session gets, so that a server ends what a silent replica leaves behind.
_SESSION = {
    # A statement is planned once where its values do not matter: see predicates.py for those that have filters.
    "plan_cache_mode": "auto",
    # Compiling costs more than it brings.
    "jit": "off",
    "TimeZone": "'UTC'",
}
_DIRECT = {
    # Of a replica whose machine or network is gone. Where the connection is a local socket these change nothing.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
_FAILURES = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
STATEMENT_S = 900
"""Longest time of a statement that is a transaction of its own, in seconds.

Longer than nearly every caller waits, also a router whose own caller sets no deadline. Deadlines end these statements;
this ends what a replica leaves behind that was stopped.
"""
# A plan may be kept for so long: tables grow, and what is best for few rows is not for many.
_PLAN_S = 60
_UNSUPPORTED = re.compile(r"unsupported startup parameter(?: in options)?: ([A-Za-z_.]{1,60})")


class Connector:
    """Opener of connections to the servers of one URL.

    Args:
        url: postgresql://...; never shown.
        connect_s: how long one connection may take to open, in seconds.
        settings: what every session has besides.
    """

    def __init__(self, url: str, *, connect_s: float, settings: Mapping[str, str] | None = None) -> None:
        self._url = url
        self._connect_s = connect_s
        self._own_settings = dict(settings or {})
        self._last: str | None = None
        self.pooled = False
        """True where a pooler such as PgBouncer stands between: no state of a session may be relied on then."""
        self.vector_schema: str | None = None
        """The schema of the extension vector, once it is known."""

    def local_settings(self) -> str:
        """Return SET LOCAL statements for a transaction whose session cannot be trusted to have the settings."""
        if not self.pooled:
            return ""
        return "".join(f"SET LOCAL {name} = {value};" for name, value in self._settings().items())

    def _settings(self) -> dict[str, str]:
        path = f'lensmesh, "{self.vector_schema}"' if self.vector_schema else "lensmesh, public"
        return {**_SESSION, **self._own_settings, "search_path": path}

    async def open_for_vectors(self) -> asyncpg.Connection:
        """Open a connection that reads and writes vectors. The database has to be prepared already."""
        connection = await self.open()
        try:
            async with asyncio.timeout(self._connect_s):
                if not self.pooled:
                    await connection.execute(f"SET statement_timeout = {1000 * STATEMENT_S}")
                async with connection.transaction():
                    await register_vector(connection, schema=self.vector_schema or "public")
        except ValueError:
            connection.terminate()
            raise unavailable("this server's database is not prepared yet") from None
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def open(self) -> asyncpg.Connection:
        """Open a connection to a server that is wanted.

        Raises:
            StoreRefused: the URL cannot be read, or a pooler must be set up otherwise.
            TimeoutError, OSError, asyncpg's errors: see `faults.translate`.
        """
        try:
            async with asyncio.timeout(self._connect_s):
                connection = await self._choose()
                try:
                    return await self._prepared(connection)
                except BaseException:
                    connection.terminate()
                    raise
        except TimeoutError:
            if self.pooled:
                raise no_pooled_connection() from None
            raise

    async def _prepared(self, connection: asyncpg.Connection) -> asyncpg.Connection:
        # In a transaction, so that a pooler keeps to one server.
        async with connection.transaction():
            server_pid = await connection.fetchval("SELECT pg_backend_pid()")
            # A pooler answers for many servers and has process numbers of its own.
            pooled = server_pid != connection.get_server_pid()
        if pooled != self.pooled:
            self.pooled = pooled
            connection.terminate()
            connection = await self._choose()
            try:
                return await self._prepared(connection)
            except BaseException:
                connection.terminate()
                raise
        if not pooled:
            await connection.execute("".join(f"SET {k} = {v};" for k, v in (self._settings() | _DIRECT).items()))
            # Not every system that PostgreSQL runs on has it.
            with contextlib.suppress(asyncpg.PostgresError):
                # A statement whose caller is gone ends, and with it what it locks.
                await connection.execute("SET client_connection_check_interval = 2000")
        return connection

    async def _choose(self) -> asyncpg.Connection:
        urls, wanted = servers(self._url)
        if self._last in urls and len(urls) > 1:
            try:
                async with asyncio.timeout(self._connect_s / 4):
                    return await self._connect(self._last, wanted)
            except _FAILURES:
                self._last = None
        if wanted == "prefer-standby":
            try:
                return await self._any(urls, "standby")
            except _FAILURES:
                wanted = "any"
        return await self._any(urls, wanted)

    async def _any(self, urls: Sequence[str], wanted: str) -> asyncpg.Connection:
        """Try all servers at once: one that does not answer must not use up the time of those that do."""
        tasks = [asyncio.ensure_future(self._connect(url, wanted)) for url in urls]
        chosen: asyncpg.Connection | None = None
        errors: list[BaseException] = []
        try:
            for done in asyncio.as_completed(tasks):
                try:
                    chosen = await done
                    return chosen
                except _FAILURES as error:
                    errors.append(error)
        finally:
            for task in tasks:
                task.cancel()
            try:
                await asyncio.gather(*tasks, return_exceptions=True)
            except asyncio.CancelledError:
                chosen = None
                raise
            finally:
                for task in tasks:
                    if task.done() and not task.cancelled() and task.exception() is None:
                        other = task.result()
                        if other is not chosen:
                            other.terminate()
        # A server that answers and is not wanted tells more than one that does not answer.
        raise next((e for e in errors if isinstance(e, asyncpg.TargetServerAttributeNotMatched)), errors[0])

    async def _connect(self, url: str, wanted: str) -> asyncpg.Connection:
        try:
            connection = await asyncpg.connect(
                url,
                timeout=self._connect_s,
                target_session_attrs=wanted,
                server_settings={"application_name": "lensmesh-search"},
                max_cached_statement_lifetime=_PLAN_S,
                # A pooler gives each transaction another server, which knows none of the others' prepared statements.
                **({"statement_cache_size": 0} if self.pooled else {}),
            )
        except ValueError:
            # The driver's text would show parts of the URL.
            raise StoreRefused(BAD_URL) from None
        except asyncpg.ProtocolViolationError as error:
            if found := _UNSUPPORTED.search(str(error)):
                raise StoreRefused(
                    f"PgBouncer does not take the store URL's parameter {found[1]}: take it out of the URL, or set"
                    f" ignore_startup_parameters = {found[1]} in PgBouncer"
                ) from None
            raise
        self._last = url
        return connection
