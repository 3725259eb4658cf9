"""Building of one graph by `CREATE INDEX CONCURRENTLY`: with memory and workers for it, and watched while it takes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import asyncpg

from search_svc.model import NamedSpace, StoredAs
from search_svc.postgres.database import Database
from search_svc.postgres.tables import create_index, vectors_table
from search_svc.refusals import unavailable

# While a build runs, its server is asked once in so many looks whether it is there.
_CHECKS = 5
# Of the server's memory for each node of a graph, beside its vector: pgvector 0.8.
_NODE_BYTES = 320
_LINK_BYTES = 32
_SPARE = 1.25


@dataclass(frozen=True)
class BuildSettings:
    """Limits of how much of the server a build may use; see `SearchSettings`."""

    memory_bytes: int
    workers: int
    check_s: float
    """Between two looks. A build that failed is tried again after as long, then after twice that, up to a minute."""
    answer_s: float
    """The longest time that the server may take to say that it is there."""


@dataclass(frozen=True)
class Graph:
    """A graph that is to be built: of which space, with which parameters (`named.hnsw`), under which name."""

    key: str
    """Of its collection."""
    position: int
    named: NamedSpace
    name: str
    """With its schema."""

    @property
    def table(self) -> str:
        return vectors_table(self.key, self.position)


@dataclass(frozen=True)
class GraphState:
    """State of a graph: `is_valid` None where none has its name, `is_running` while one is built on its table."""

    is_valid: bool | None
    is_running: bool


async def state_of(connection: asyncpg.Connection, graph: Graph) -> GraphState:
    """Tell how a graph is."""
    row = await connection.fetchrow(
        """
        SELECT (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)) AS is_valid, EXISTS (
            SELECT FROM pg_stat_progress_create_index
            WHERE datname = current_database() AND relid = to_regclass($2)
        ) OR pg_is_in_recovery() AS is_running
        """,  # A standby gets it from its primary.
        graph.name,
        graph.table,
    )
    return GraphState(row["is_valid"], row["is_running"])


class GraphBuilder:
    """Builder of one graph at a time.

    Args:
        database: where.
        settings: how much of the server it may use.
    """

    def __init__(self, database: Database, settings: BuildSettings) -> None:
        self._database = database
        self._settings = settings

    async def build(
        self,
        connection: asyncpg.Connection,
        watch: asyncpg.Connection,
        graph: Graph,
        clean: Callable[[], Awaitable[None]],
    ) -> None:
        """Build a graph whose name is free.

        Args:
            connection: what builds. It is closed where this is cancelled; the server goes on.
            watch: what asks meanwhile whether the server is there.
            graph: which one.
            clean: removes what a failure leaves.
        """
        await self._make_room(connection, graph)
        try:
            await self._create(connection, watch, graph, clean)
        except asyncpg.DiskFullError as error:
            if "shared memory" not in str(error) or self._database.is_pooled:
                raise
            # Not the disk: a container gives processes little memory to share. One alone needs none.
            await connection.execute("SET max_parallel_maintenance_workers = 0")
            await self._create(connection, watch, graph, clean)

    async def _make_room(self, connection: asyncpg.Connection, graph: Graph) -> None:
        """Let the build have the memory that it needs, up to the limit, and workers."""
        if self._database.is_pooled:
            # What is set there stays for whoever gets the connection next.
            return
        count = await connection.fetchval(f"SELECT count(*) FROM {graph.table}")
        server_bytes: int = await connection.fetchval("SELECT pg_size_bytes(current_setting('maintenance_work_mem'))")
        needed = int(_SPARE * count * _node_bytes(graph.named))
        memory = max(server_bytes, min(needed, self._settings.memory_bytes))
        await connection.execute(
            f"SET maintenance_work_mem = '{memory // 1024}kB';"
            f"SET max_parallel_maintenance_workers = {int(self._settings.workers)};"
            # The server goes on when this replica is gone, and the next one finds the index.
            "SET client_connection_check_interval = 0;"
            "SET statement_timeout = 0; SET lock_timeout = 0"
        )

    async def _create(
        self,
        connection: asyncpg.Connection,
        watch: asyncpg.Connection,
        graph: Graph,
        clean: Callable[[], Awaitable[None]],
    ) -> None:
        ready = self._database.ready
        schema = ready.vector_schema if ready else "public"
        work = asyncio.ensure_future(connection.execute(create_index(graph.table, graph.name, graph.named, schema)))
        try:
            while not (await asyncio.wait([work], timeout=_CHECKS * self._settings.check_s))[0]:
                await self._ask(watch)
        except BaseException:
            # Without a word to the server: see `_make_room`.
            connection.terminate()
            await asyncio.wait([work])
            work.exception()
            raise
        try:
            work.result()
        except asyncpg.DuplicateTableError:
            # Another's, which is not ours to remove.
            raise
        except asyncpg.PostgresError:
            if not connection.is_closed():
                # What it left takes room, and every write would go into it.
                await clean()
            raise

    async def _ask(self, watch: asyncpg.Connection) -> None:
        """Raise Unavailable if the server is not there any more: a network that is cut tells nobody who waits."""
        try:
            async with asyncio.timeout(self._settings.answer_s):
                await watch.execute("SELECT")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            raise unavailable("the database does not answer") from None


def _node_bytes(named: NamedSpace) -> int:
    number = 2 if named.stored_as is StoredAs.FLOAT16 else 4
    links = named.hnsw.m if named.hnsw else 0
    return number * named.space.dimension + _NODE_BYTES + _LINK_BYTES * links
