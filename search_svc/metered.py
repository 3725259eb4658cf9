"""A wrapper around any store: it times each operation, counts errors, and makes a span where its call has one."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from search_svc.aggregates import AggregatedItems, Aggregation
from search_svc.calibration import Calibration
from search_svc.duplicates.items import HashPage
from search_svc.filters import Filter
from search_svc.jobs.metered import JOB_OPERATIONS, PART_OPERATIONS, MeteredJobs
from search_svc.jobs.model import Lease
from search_svc.jobs.store import JobStore, LeasedWrite, Report
from search_svc.metadata import MetadataLimits
from search_svc.meter import StoreMeter
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
from search_svc.store import Query, Store

OPERATIONS = (
    "open",
    "check",
    "create_collection",
    "find_collection",
    "count_items",
    "list_collections",
    "delete_collection",
    "build_indexes",
    "upsert",
    "get_items",
    "list_items",
    "list_hashes",
    "delete_ids",
    "delete_matching",
    "delete_batch",
    "count_matching",
    "rebuild_index",
    "undo_rebuild",
    "search",
    "count_facets",
    "sample_vectors",
    "save_calibrations",
    "aggregate",
)


class MeteredStore:
    """A store that is measured; see `Store`.

    Labels are this code's operations and reasons: no collection's name, no caller's word.
    """

    def __init__(self, store: Store, registry: CollectorRegistry) -> None:
        self._store = store
        meter = StoreMeter((*OPERATIONS, *JOB_OPERATIONS, *PART_OPERATIONS), registry, store.describe)
        self._timed = meter.timed
        self._jobs = MeteredJobs(store.jobs, meter)

    @property
    def jobs(self) -> JobStore:
        return self._jobs

    async def open(self) -> None:
        await self._timed("open", self._store.open())

    async def check(self) -> None:
        await self._timed("check", self._store.check())

    async def close(self) -> None:
        await self._store.close()

    def write_trouble(self) -> str:
        return self._store.write_trouble()

    def describe(self) -> str:
        return self._store.describe()

    async def create_collection(self, definition: Definition, *, timeout_s: float) -> CountedCollection:
        return await self._timed("create_collection", self._store.create_collection(definition, timeout_s=timeout_s))

    async def find_collection(self, name: str, *, fresh: bool, timeout_s: float) -> Collection:
        found = self._store.find_collection(name, fresh=fresh, timeout_s=timeout_s)
        return await self._timed("find_collection", found)

    async def count_items(self, collection: Collection, *, timeout_s: float) -> CountedCollection:
        return await self._timed("count_items", self._store.count_items(collection, timeout_s=timeout_s))

    async def list_collections(self, *, after: str, count: int, timeout_s: float) -> Sequence[CountedCollection]:
        page = self._store.list_collections(after=after, count=count, timeout_s=timeout_s)
        return await self._timed("list_collections", page)

    async def delete_collection(self, name: str, *, timeout_s: float) -> int:
        return await self._timed("delete_collection", self._store.delete_collection(name, timeout_s=timeout_s))

    async def build_indexes(self, collection: Collection, *, timeout_s: float) -> CountedCollection:
        return await self._timed("build_indexes", self._store.build_indexes(collection, timeout_s=timeout_s))

    async def upsert(
        self, collection: Collection, items: Sequence[Item], *, merge: MetadataLimits | None = None, timeout_s: float
    ) -> list[Upserted]:
        return await self._timed("upsert", self._store.upsert(collection, items, merge=merge, timeout_s=timeout_s))

    async def get_items(
        self, collection: Collection, ids: Sequence[str], *, view: View, max_bytes: int, timeout_s: float
    ) -> FetchedItems:
        items = self._store.get_items(collection, ids, view=view, max_bytes=max_bytes, timeout_s=timeout_s)
        return await self._timed("get_items", items)

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
        page = self._store.list_items(
            collection, filter=filter, after=after, count=count, view=view, max_bytes=max_bytes, timeout_s=timeout_s
        )
        return await self._timed("list_items", page)

    async def list_hashes(
        self, collection: Collection, filter: Filter, *, after: str, count: int, timeout_s: float
    ) -> HashPage:
        page = self._store.list_hashes(collection, filter, after=after, count=count, timeout_s=timeout_s)
        return await self._timed("list_hashes", page)

    def position(self, item_id: str) -> str:
        return self._store.position(item_id)

    async def delete_ids(self, collection: Collection, ids: Sequence[str], *, timeout_s: float) -> int:
        return await self._timed("delete_ids", self._store.delete_ids(collection, ids, timeout_s=timeout_s))

    async def delete_matching(self, collection: Collection, filter: Filter, *, timeout_s: float) -> int:
        deleted = self._store.delete_matching(collection, filter, timeout_s=timeout_s)
        return await self._timed("delete_matching", deleted)

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
        deleted = self._store.delete_batch(
            collection, filter, after=after, count=count, within=within, timeout_s=timeout_s
        )
        return await self._timed("delete_batch", deleted)

    async def rebuild_index(
        self, collection: Collection, space: str, wanted: Hnsw, *, lease: Lease, report: Report
    ) -> bool:
        rebuilt = self._store.rebuild_index(collection, space, wanted, lease=lease, report=report)
        return await self._timed("rebuild_index", rebuilt)

    async def undo_rebuild(self, collection: Collection, space: str, wanted: Hnsw, *, lease: Lease) -> None:
        await self._timed("undo_rebuild", self._store.undo_rebuild(collection, space, wanted, lease=lease))

    async def count_matching(self, collection: Collection, filter: Filter, *, timeout_s: float) -> int:
        counted = self._store.count_matching(collection, filter, timeout_s=timeout_s)
        return await self._timed("count_matching", counted)

    async def search(self, collection: Collection, query: Query, *, timeout_s: float) -> Hits:
        return await self._timed("search", self._store.search(collection, query, timeout_s=timeout_s))

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
        facets = self._store.count_facets(
            collection, fields, filter=filter, limit=limit, max_bytes=max_bytes, timeout_s=timeout_s
        )
        return await self._timed("count_facets", facets)

    async def sample_vectors(
        self, collection: Collection, named: NamedSpace, count: int, *, timeout_s: float
    ) -> list[tuple[str, Numbers]]:
        work = self._store.sample_vectors(collection, named, count, timeout_s=timeout_s)
        return await self._timed("sample_vectors", work)

    async def save_calibrations(
        self, collection: Collection, space: str, measured: Sequence[Calibration], *, timeout_s: float
    ) -> None:
        work = self._store.save_calibrations(collection, space, measured, timeout_s=timeout_s)
        await self._timed("save_calibrations", work)

    async def aggregate(
        self,
        collection: Collection,
        asked: Sequence[Aggregation],
        *,
        filter: Filter | None,
        max_bytes: int,
        timeout_s: float,
    ) -> AggregatedItems:
        work = self._store.aggregate(collection, asked, filter=filter, max_bytes=max_bytes, timeout_s=timeout_s)
        return await self._timed("aggregate", work)
