"""Building of indexes that were left for later, beside reads and writes.

What is left stands in the database, so a build outlives whoever asked for it. PostgreSQL goes on with one whose replica
is gone. One that ended with PostgreSQL leaves an index that is not valid, which is dropped and built anew. Of several
replicas the one that has the database's lock builds.
"""

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import asyncpg

from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.telemetry.logging import get_logger
from search_svc.model import Collection
from search_svc.postgres import deferred
from search_svc.postgres.database import Database
from search_svc.postgres.deferred import DeferredIndex
from search_svc.postgres.faults import translated
from search_svc.postgres.graphs import BuildSettings, GraphBuilder, state_of
from search_svc.postgres.tables import items_table
from search_svc.refusals import unavailable
from search_svc.store import StoreRefused

_log = get_logger(__name__)
_LOCK = 0x6C656E73
_CALL_S = 10.0
_LONGEST_PAUSE_S = 60.0


class IndexBuilder:
    """Builder of what is left, one index at a time.

    Args:
        database: where.
        settings: how much of the server it may use.
        known: collections that the store remembers, by name. Where an index of one stands by now, it is replaced.
    """

    def __init__(self, database: Database, settings: BuildSettings, known: dict[str, Collection]) -> None:
        self._database = database
        self._settings = settings
        self._graphs = GraphBuilder(database, settings)
        self._known = known
        self._looking: asyncio.Task[None] | None = None
        self._building: asyncio.Task[None] | None = None
        # By name: when it may be tried again, and how long it waited.
        self._pauses: dict[str, tuple[float, float]] = {}

    def look(self) -> None:
        """Look what is left to build, and begin to build what shall be. Return at once."""
        if self._looking is None or self._looking.done():
            self._looking = _started(self._look())

    def hurry(self) -> None:
        """Look as `look` does, and try at once what failed before."""
        self._pauses.clear()
        self.look()

    async def stop(self) -> None:
        """End. PostgreSQL goes on with what it builds."""
        tasks = [task for task in (self._looking, self._building) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _look(self) -> None:
        # Read first: a collection that is made meanwhile is not in what is asked then.
        before = dict(self._known)
        try:
            indexes = await self._database.run(deferred.left, timeout_s=_CALL_S)
            for name, collection in before.items():
                names = frozenset(index.named.name for index in indexes if index.key == collection.key)
                if collection.unbuilt - names and self._known.get(name) is collection:
                    self._known[name] = replace(collection, unbuilt=names)
            wanted = [index for index in indexes if index.wanted or await self._is_reached(index)]
        except (LensmeshError, asyncpg.UndefinedTableError):
            # A database that is away is told by the watch, and a collection that is gone needs nothing.
            return
        except Exception:  # noqa: BLE001 - the next look may do better, and the log says what it was
            _log.exception("looking for indexes to build failed")
            return
        now = asyncio.get_running_loop().time()
        due = [index for index in wanted if self._pauses.get(index.name, (0.0, 0.0))[0] <= now]
        if due and (self._building is None or self._building.done()):
            self._building = _started(self._build_all(due))

    async def _is_reached(self, index: DeferredIndex) -> bool:
        """Tell whether the collection has the items that its definition sets for a build. Then it is noted."""
        if not await self._database.run(lambda c: deferred.is_reached(c, index), timeout_s=_CALL_S):
            return False
        await self._database.run(lambda c: deferred.want(c, index.key), timeout_s=_CALL_S, write=True)
        return True

    async def _build_all(self, indexes: Sequence[DeferredIndex]) -> None:
        for index in indexes:
            try:
                await self._build(index)
            except LensmeshError as error:
                await self._failed(index, error)
            except StoreRefused as error:
                await self._failed(index, unavailable(str(error)))
            except asyncpg.UndefinedTableError:
                # The collection was removed.
                continue
            except asyncpg.QueryCanceledError:
                await self._failed(index, unavailable("the building of the index was broken off"))
            except Exception:  # noqa: BLE001 - whatever it is, the others are built, and the log says what it was
                _log.exception("building an index failed", collection=index.collection, space=index.named.name)
                await self._failed(index, unavailable("an unexpected error, see this service's log"))

    async def _failed(self, index: DeferredIndex, error: LensmeshError) -> None:
        waited = self._pauses.get(index.name, (0.0, self._settings.check_s / 2))[1]
        pause = min(2 * waited, _LONGEST_PAUSE_S)
        self._pauses[index.name] = (asyncio.get_running_loop().time() + pause, pause)
        _log.warning(
            "an index could not be built", collection=index.collection, space=index.named.name, why=error.message
        )
        with suppress(LensmeshError):
            await self._database.run(lambda c: deferred.fail(c, index, error), timeout_s=_CALL_S, write=True)

    async def _build(self, index: DeferredIndex) -> None:
        """Build one index, unless somebody is at it."""
        with translated():
            async with self._alone(index) as lock:
                if lock is None:
                    return
                connection = await self._database.connect()
                try:
                    if not await self._stands(connection, lock, index):
                        return
                finally:
                    connection.terminate()
        await self._database.run(lambda c: deferred.finish(c, index), timeout_s=_CALL_S, write=True)
        for name, collection in list(self._known.items()):
            if collection.key == index.key:
                self._known[name] = replace(collection, unbuilt=collection.unbuilt - {index.named.name})
        await self._tidy(index)
        self._pauses.pop(index.name, None)

    async def _tidy(self, index: DeferredIndex) -> None:
        """Let PostgreSQL look at the items.

        While an index is built it cannot note which of them everybody sees, and behind the writes of a large collection
        it may look no more. Until it has, an index that has all that a search wants does not do without the items.
        """
        connection = await self._database.connect()
        try:
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await connection.execute(f"VACUUM (ANALYZE, SKIP_LOCKED) {items_table(index.key)}")
        finally:
            connection.terminate()

    @asynccontextmanager
    async def _alone(self, index: DeferredIndex) -> AsyncIterator[asyncpg.Connection | None]:
        """Hold the database's lock on an index. Yield the connection that has it, or None if another replica does."""
        connection = await self._database.connect()
        try:
            # In a transaction, so that a pooler keeps to one server.
            await connection.execute("BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0")
            is_alone = await connection.fetchval(
                "SELECT pg_try_advisory_xact_lock($1, hashtext($2))", _LOCK, index.name
            )
            # Lets go of the snapshot of the one before, which the build would wait for.
            await connection.execute("SELECT")
            yield connection if is_alone else None
        finally:
            connection.terminate()

    async def _stands(self, connection: asyncpg.Connection, lock: asyncpg.Connection, index: DeferredIndex) -> bool:
        """See to it that the index stands. False: the server is at it already, for a replica that is gone."""
        graph = index.graph
        state = await state_of(connection, graph)
        if state.is_valid or state.is_running:
            return bool(state.is_valid)
        if state.is_valid is False:
            await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {graph.name}")

        async def clean() -> None:
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {graph.name}")

        begun = time.monotonic()
        _log.info("an index is being built", collection=index.collection, space=index.named.name)
        await self._graphs.build(connection, lock, graph, clean)
        _log.info(
            "an index is built",
            collection=index.collection,
            space=index.named.name,
            seconds=round(time.monotonic() - begun, 1),
        )
        return True


def _started(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Begin a task that belongs to no call: neither to its trace nor to its deadline."""
    return asyncio.create_task(work, context=contextvars.Context())
