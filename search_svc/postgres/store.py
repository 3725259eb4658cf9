"""The Store on PostgreSQL: each method is one transaction, and those that only read one statement if that can be."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

import asyncpg

from lensmesh_chassis.errors import LensmeshError
from search_svc import ranking
from search_svc.aggregates import AggregatedItems, Aggregation
from search_svc.calibration import Calibration, Calibrations
from search_svc.duplicates.items import HashPage
from search_svc.filters import Filter
from search_svc.jobs.model import Lease
from search_svc.jobs.store import LeasedWrite, Report
from search_svc.metadata import MetadataLimits
from search_svc.model import (
    Collection,
    CountedCollection,
    Definition,
    DeletedBatch,
    Facet,
    FetchedItems,
    FieldIndex,
    Hits,
    Hnsw,
    Item,
    ItemPage,
    NamedSpace,
    Numbers,
    Upserted,
    View,
)
from search_svc.postgres import (
    aggregating,
    collections,
    deferred,
    facets,
    legs,
    one_statement,
    reading,
    searching,
    sketches,
    writing,
)
from search_svc.postgres.building import IndexBuilder
from search_svc.postgres.database import Database
from search_svc.postgres.graphs import BuildSettings
from search_svc.postgres.jobs import PostgresJobs
from search_svc.postgres.listing import Listing
from search_svc.postgres.rebuilding import Rebuild
from search_svc.refusals import no_collection, unavailable
from search_svc.settings import SearchSettings
from search_svc.store import Query, StaleCollection
from search_svc.threads import Threads

T = TypeVar("T")
Work = Callable[[asyncpg.Connection], Awaitable[T]]
_ATTEMPTS = 3
# For a look at what other replicas measured.
_LOOK_S = 5.0


def open_store(settings: SearchSettings, _tracer_provider: Any | None) -> "PostgresStore":
    """Make the store that the settings name. Its spans are made by statement_spans.py."""
    database = Database(
        settings.store_url.get_secret_value(),
        pool_size=settings.pool_size,
        connect_s=settings.store_connect_seconds,
        idle_s=settings.store_idle_seconds,
        settings=searching.session_settings(settings.hnsw_ef),
    )
    build = BuildSettings(
        memory_bytes=settings.build_memory_bytes,
        workers=settings.build_workers,
        check_s=settings.store_check_seconds,
        answer_s=settings.store_connect_seconds,
    )
    return PostgresStore(database, build=build)


class PostgresStore:
    """Items in PostgreSQL; see `Store`. Definitions never change, so they are remembered.

    A missing table shows that one is stale. Which indexes are built is looked at with each check.

    Args:
        database: where to.
        build: how much of the server the building of an index may use.
    """

    def __init__(self, database: Database, *, build: BuildSettings) -> None:
        self._database = database
        self._build = build
        self._known: dict[str, Collection] = {}
        self._threads = Threads("search-postgres")
        self._builder = IndexBuilder(database, build, self._known)
        self.jobs = PostgresJobs(database)

    async def open(self) -> None:
        self._known.clear()
        await self._database.open()
        self._builder.look()

    async def check(self) -> None:
        await self._database.check()
        self._builder.look()
        if self._known:
            # What another replica measured. Whether the store serves is told without it.
            with suppress(LensmeshError):
                await self._look_at_calibrations()

    async def close(self) -> None:
        await self._builder.stop()
        await self._database.close()
        self._threads.stop()

    def write_trouble(self) -> str:
        trouble = self._database.write_trouble
        return trouble.message if trouble else ""

    def describe(self) -> str:
        ready = self._database.ready
        return f"postgresql {ready.server}, pgvector {ready.pgvector}" if ready else "postgresql"

    async def create_collection(self, definition: Definition, *, timeout_s: float) -> CountedCollection:
        return await self._run(lambda c: collections.create(c, definition), timeout_s, write=True)

    async def find_collection(self, name: str, *, fresh: bool, timeout_s: float) -> Collection:
        if fresh or name not in self._known:
            self._known.pop(name, None)
            collection = await self._run(lambda c: collections.find(c, name), timeout_s, single=True)
            if collection is None:
                raise no_collection(name)
            self._known[name] = collection
            return collection
        return self._known[name]

    async def count_items(self, collection: Collection, *, timeout_s: float) -> CountedCollection:
        async def work(connection: asyncpg.Connection) -> CountedCollection:
            # The parameters of an index change when it is built anew, by another replica it may be.
            now = await collections.find(connection, collection.definition.name)
            if now is None or now.key != collection.key:
                raise StaleCollection
            return await collections.counted(connection, now)

        return await self._with(collection, work, timeout_s)

    async def list_collections(self, *, after: str, count: int, timeout_s: float) -> Sequence[CountedCollection]:
        return await self._run(lambda c: collections.page(c, after=after, count=count), timeout_s)

    async def delete_collection(self, name: str, *, timeout_s: float) -> int:
        self._known.pop(name, None)
        return await self._run(lambda c: collections.remove(c, name), timeout_s, write=True)

    async def build_indexes(self, collection: Collection, *, timeout_s: float) -> CountedCollection:
        async def work(connection: asyncpg.Connection) -> CountedCollection:
            await deferred.want(connection, collection.key)
            return await collections.counted(connection, collection)

        counted = await self._with(collection, work, timeout_s, write=True)
        self._builder.hurry()
        return counted

    async def upsert(
        self, collection: Collection, items: Sequence[Item], *, merge: MetadataLimits | None = None, timeout_s: float
    ) -> list[Upserted]:
        words = await writing.words_by_id(items, collection.definition, self._threads)
        made = await sketches.sketches_by_id(items, collection.definition, self._threads)
        return await self._with(
            collection,
            lambda c: writing.upsert(c, collection, items, merge, words=words, sketches=made, threads=self._threads),
            timeout_s,
            write=True,
        )

    async def get_items(
        self, collection: Collection, ids: Sequence[str], *, view: View, max_bytes: int, timeout_s: float
    ) -> FetchedItems:
        def work(connection: asyncpg.Connection) -> Awaitable[FetchedItems]:
            return reading.read_ids(connection, collection, ids, view=view, max_bytes=max_bytes)

        return await self._with(collection, work, timeout_s, single=len(ids) <= reading.at_once(view))

    async def list_items(
        self,
        collection: Collection,
        *,
        filter: Filter | None,
        after: str,
        count: int,
        view: View,
        max_bytes: int,
        timeout_s: float,
    ) -> ItemPage:
        listing = Listing(collection, filter, after=after, count=count, view=view, max_bytes=max_bytes)
        return await self._with(collection, listing.read, timeout_s, single=listing.is_single)

    async def list_hashes(
        self, collection: Collection, filter: Filter, *, after: str, count: int, timeout_s: float
    ) -> HashPage:
        return await self._with(
            collection,
            lambda c: reading.read_hashes(c, collection, filter, after=after, count=count),
            timeout_s,
            single=True,
        )

    def position(self, item_id: str) -> str:
        return item_id

    async def delete_ids(self, collection: Collection, ids: Sequence[str], *, timeout_s: float) -> int:
        return await self._with(collection, lambda c: writing.delete_ids(c, collection, ids), timeout_s, write=True)

    async def delete_matching(self, collection: Collection, filter: Filter, *, timeout_s: float) -> int:
        return await self._with(
            collection, lambda c: writing.delete_matching(c, collection, filter), timeout_s, write=True
        )

    async def delete_batch(
        self,
        collection: Collection,
        filter: Filter,
        *,
        after: str,
        count: int,
        within: LeasedWrite,
        timeout_s: float,
    ) -> DeletedBatch:
        def work(connection: asyncpg.Connection) -> Awaitable[DeletedBatch]:
            return writing.delete_batch(connection, collection, filter, after=after, count=count, within=within)

        return await self._with(collection, work, timeout_s, write=True)

    async def rebuild_index(
        self, collection: Collection, space: str, wanted: Hnsw, *, lease: Lease, report: Report
    ) -> bool:
        await self._rebuild(collection, space, wanted, lease).run(report)
        # Its definition may be another one by now.
        self._known.pop(collection.definition.name, None)
        return True

    async def undo_rebuild(self, collection: Collection, space: str, wanted: Hnsw, *, lease: Lease) -> None:
        await self._rebuild(collection, space, wanted, lease).undo()

    def _rebuild(self, collection: Collection, space: str, wanted: Hnsw, lease: Lease) -> Rebuild:
        named = collection.definition.space(space)
        assert named is not None
        return Rebuild(self._database, self._build, collection, named, wanted, lease)

    async def count_matching(self, collection: Collection, filter: Filter, *, timeout_s: float) -> int:
        return await self._with(
            collection, lambda c: reading.count_matching(c, collection, filter), timeout_s, single=True
        )

    async def sample_vectors(
        self, collection: Collection, named: NamedSpace, count: int, *, timeout_s: float
    ) -> list[tuple[str, Numbers]]:
        return await self._with(
            collection, lambda c: reading.sample_vectors(c, collection, named, count), timeout_s, single=True
        )

    async def save_calibrations(
        self, collection: Collection, space: str, measured: Sequence[Calibration], *, timeout_s: float
    ) -> None:
        known = await self._with(
            collection,
            lambda c: collections.save_calibrations(c, collection, space, measured),
            timeout_s,
            write=True,
        )
        if known is None:
            raise StaleCollection
        self._note_calibrations({collection.key: known})

    async def _look_at_calibrations(self) -> None:
        keys = [collection.key for collection in self._known.values()]
        found = await self._run(lambda c: collections.calibrations(c, keys), _LOOK_S, single=True)
        self._note_calibrations(found)

    def _note_calibrations(self, found: Mapping[str, Calibrations]) -> None:
        for name, collection in list(self._known.items()):
            known = found.get(collection.key, collection.calibrations)
            if known != collection.calibrations:
                self._known[name] = replace(collection, calibrations=known)

    async def search(self, collection: Collection, query: Query, *, timeout_s: float) -> Hits:
        leg = query.only_leg
        if leg is None:
            return await self._with(
                collection,
                lambda c: ranking.search(legs.LegSource(c, collection, query, self._threads), query),
                timeout_s,
            )
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_s
        hits = await one_statement.search(
            lambda fetch: self._with(collection, fetch, deadline - clock(), single=True), collection, query, leg
        )
        if hits is not None:
            return hits
        return await self._with(collection, lambda c: searching.search(c, collection, query, leg), deadline - clock())

    async def count_facets(
        self,
        collection: Collection,
        fields: Sequence[FieldIndex],
        *,
        filter: Filter | None,
        limit: int,
        max_bytes: int,
        timeout_s: float,
    ) -> list[Facet]:
        async def work(connection: asyncpg.Connection) -> list[Facet]:
            found: list[Facet] = []
            size = 0
            for field in fields:
                found.append(await facets.count(connection, collection, field, tree=filter, limit=limit))
                size += sum(len(str(counted.value)) for counted in found[-1].counts)
                if size > max_bytes:
                    break
            return found

        return await self._with(collection, work, timeout_s, single=len(fields) == 1)

    async def aggregate(
        self,
        collection: Collection,
        asked: Sequence[Aggregation],
        *,
        filter: Filter | None,
        max_bytes: int,
        timeout_s: float,
    ) -> AggregatedItems:
        def work(connection: asyncpg.Connection) -> Awaitable[AggregatedItems]:
            return aggregating.aggregate(connection, collection, asked, tree=filter, max_bytes=max_bytes)

        return await self._with(collection, work, timeout_s)

    async def _with(
        self, collection: Collection, work: Work[T], timeout_s: float, *, write: bool = False, single: bool = False
    ) -> T:
        """Run work on one collection's own tables."""
        try:
            return await self._database.run(work, timeout_s=timeout_s, write=write, single=single)
        except asyncpg.UndefinedTableError:
            self._known.pop(collection.definition.name, None)
            raise StaleCollection from None

    async def _run(self, work: Work[T], timeout_s: float, *, write: bool = False, single: bool = False) -> T:
        """Run work that looks at several collections; one of them may be removed meanwhile."""
        for _ in range(_ATTEMPTS):
            try:
                return await self._database.run(work, timeout_s=timeout_s, write=write, single=single)
            except asyncpg.UndefinedTableError:
                continue
        raise unavailable("the database is not prepared, or lost its schema")
