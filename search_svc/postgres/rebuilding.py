"""Building of a graph beside the one that serves, and its taking over: the work of a job.

The new graph has a name of its own, by the job, and keeps it. What decides is done in transactions that look at the
job's lease: in one of them the new graph takes over, and one that failed is removed in one. What only adds, or removes
what no longer counts, needs none: a replica that stood still and does it late does no harm. PostgreSQL goes on with a
build whose replica is gone, and whoever takes the job up waits for it.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import asyncpg

from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.telemetry.logging import get_logger
from search_svc.definitions import definition_from_json, definition_to_json, with_index
from search_svc.jobs.model import Lease
from search_svc.jobs.store import Report
from search_svc.model import Collection, Hnsw, NamedSpace
from search_svc.postgres import leases
from search_svc.postgres.database import Database
from search_svc.postgres.faults import translated
from search_svc.postgres.graphs import BuildSettings, Graph, GraphBuilder, state_of
from search_svc.postgres.tables import rebuilt_name, vectors_table
from search_svc.refusals import unavailable
from search_svc.store import StaleCollection

_log = get_logger(__name__)
_CALL_S = 10.0
# A graph that failed is removed at a moment when nobody uses its table: nobody waits for that longer than this.
_REMOVE_MS = 100
_PAUSE_S = 0.25
# Before and behind the blocks that are counted lie phases that are not: waiting for writers, and looking for what came
# meanwhile.
_COUNTED = 0.95
_GRAPHS = """
    SELECT format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_am AS a ON a.oid = c.relam
    WHERE i.indrelid = to_regclass($1) AND a.amname = 'hnsw'
"""


class Rebuild:
    """The rebuilding of one space's graph by a job.

    Args:
        database: where.
        settings: how much of the server it may use.
        collection: whose graph.
        named: of which space.
        wanted: with which parameters.
        lease: the job's.
    """

    def __init__(
        self,
        database: Database,
        settings: BuildSettings,
        collection: Collection,
        named: NamedSpace,
        wanted: Hnsw,
        lease: Lease,
    ) -> None:
        self._database = database
        self._settings = settings
        self._collection = collection
        self._wanted = wanted
        self._lease = lease
        position = collection.definition.spaces.index(named)
        name = rebuilt_name(collection.key, position, lease.job_id)
        self._graph = Graph(collection.key, position, replace(named, hnsw=wanted), name)
        self._table = vectors_table(collection.key, position)

    async def run(self, report: Report) -> None:
        """Build the graph, let it take over, and remove the others. What was done by an earlier attempt is not again.

        Raises:
            LeaseLost: another replica has the job.
            StaleCollection: the collection is gone.
            Unavailable: it could not be built; what failed is removed.
        """
        begun = time.monotonic()
        try:
            with translated():
                await self._stand(report)
            others = await self._database.run(self._take_over, timeout_s=_CALL_S, write=True)
            with translated():
                await self._remove_all(others)
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedObjectError):
            raise StaleCollection from None
        except asyncpg.QueryCanceledError:
            raise unavailable("the building of the index was broken off") from None
        _log.info(
            "an index is rebuilt",
            collection=self._collection.definition.name,
            space=self._graph.named.name,
            seconds=round(time.monotonic() - begun, 1),
        )

    async def undo(self) -> None:
        """Remove the new graph, unless it has taken over: then the others. Raises as `run` does."""
        if await self._database.run(self._counts, timeout_s=_CALL_S):
            others = await self._database.run(self._others, timeout_s=_CALL_S, write=True)
            with translated():
                await self._remove_all(others)
            return
        await self._database.run(self._break_off, timeout_s=_CALL_S, write=True)
        await self._remove()

    async def _stand(self, report: Report) -> None:
        """See to it that the new graph stands, however many attempts have been at it."""
        while True:
            if await self._stands(report):
                return
            await asyncio.sleep(self._settings.check_s)

    async def _stands(self, report: Report) -> bool:
        """See to it that the new graph stands. False: something is built on its table already."""
        connection, watch = await self._database.connect(), await self._database.connect()
        try:
            state = await state_of(connection, self._graph)
            if state.is_valid is None and not state.is_running:
                if await connection.fetchval("SELECT to_regclass($1) IS NULL", self._table):
                    raise StaleCollection
                await self._build(connection, watch, report)
                state = await state_of(connection, self._graph)
            elif state.is_valid is False and not state.is_running:
                # Left by a server, or a connection, that ended in the middle.
                await self._remove()
            elif state.is_running:
                await report(await self._share())
            return bool(state.is_valid)
        finally:
            connection.terminate()
            watch.terminate()

    async def _build(self, connection: asyncpg.Connection, watch: asyncpg.Connection, report: Report) -> None:
        async def clean() -> None:
            with suppress(LensmeshError):
                await self._remove()

        building = asyncio.create_task(
            GraphBuilder(self._database, self._settings).build(connection, watch, self._graph, clean)
        )
        try:
            while not (await asyncio.wait([building], timeout=self._settings.check_s))[0]:
                await report(await self._share())
        finally:
            if not building.done():
                building.cancel()
                await asyncio.wait([building])
        with suppress(asyncpg.DuplicateTableError):
            # Another one began with it a moment before.
            building.result()

    async def _share(self) -> float:
        """Return about how much of the build on the table is done."""

        async def work(connection: asyncpg.Connection) -> float:
            row = await connection.fetchrow(
                "SELECT phase LIKE 'index validation%' AS late, blocks_done::float8 / nullif(blocks_total, 0) AS part"
                " FROM pg_stat_progress_create_index WHERE datname = current_database() AND relid = to_regclass($1)",
                self._table,
            )
            return 0.0 if row is None else _COUNTED if row["late"] else _COUNTED * (row["part"] or 0.0)

        try:
            return await self._database.run(work, timeout_s=_CALL_S, single=True)
        except LensmeshError:
            return 0.0

    async def _take_over(self, connection: asyncpg.Connection) -> list[str]:
        """Note that the new graph counts, and with which parameters it is built. Return the names of all others."""
        others = await self._others(connection)
        state = await state_of(connection, self._graph)
        if not state.is_valid:
            raise unavailable("the new index is not there any more")
        row = await connection.fetchrow(
            "SELECT name, definition FROM lensmesh.collections WHERE key = $1 FOR UPDATE", int(self._graph.key)
        )
        if row is None:
            raise StaleCollection
        definition = definition_from_json(row["name"], row["definition"])
        changed = with_index(definition, self._graph.named.name, self._wanted)
        await connection.execute(
            "UPDATE lensmesh.collections SET definition = $2 WHERE key = $1",
            int(self._graph.key),
            definition_to_json(changed),
        )
        # Marked in the catalog, where it goes with the index.
        await connection.execute(f"COMMENT ON INDEX {self._graph.name} IS 'counts'")
        return others

    async def _counts(self, connection: asyncpg.Connection) -> bool:
        """Tell whether the new graph has taken over."""
        found: bool = await connection.fetchval(
            "SELECT obj_description(to_regclass($1), 'pg_class') IS NOT DISTINCT FROM 'counts'", self._graph.name
        )
        return found

    async def _others(self, connection: asyncpg.Connection) -> list[str]:
        """Return the names of all graphs of the table but the new one. Some may be of jobs that could not clear away.

        Asked under the lease: later ones, which no replica that stood still may remove, are not among them.
        """
        await leases.hold(connection, self._lease)
        rows = await connection.fetch(_GRAPHS, self._table)
        return [row["name"] for row in rows if row["name"] != self._graph.name]

    async def _remove_all(self, names: Sequence[str]) -> None:
        """Remove graphs that count no more."""
        connection = await self._database.connect()
        try:
            if not self._database.is_pooled:
                # It waits for searches that use them, and keeps nobody waiting.
                await connection.execute("SET statement_timeout = 0; SET lock_timeout = 0")
            for name in names:
                await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        finally:
            connection.terminate()

    async def _break_off(self, connection: asyncpg.Connection) -> None:
        await leases.hold(connection, self._lease)
        await connection.execute(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_progress_create_index"
            " WHERE datname = current_database() AND relid = to_regclass($1)",
            self._table,
        )

    async def _remove(self) -> None:
        """Remove the new graph, which counts for nothing yet, as soon as nobody uses its table for a moment."""

        async def work(connection: asyncpg.Connection) -> None:
            await leases.hold(connection, self._lease)
            # `IF EXISTS` looks for the index before it waits for anybody.
            await connection.execute(f"SET LOCAL lock_timeout = {_REMOVE_MS}; DROP INDEX IF EXISTS {self._graph.name}")

        while True:
            try:
                return await self._database.run(work, timeout_s=_CALL_S, write=True)
            except asyncpg.LockNotAvailableError:
                await asyncio.sleep(_PAUSE_S)
