"""The Store on Qdrant. Each method is some calls, each atomic in itself; docs/stores.md says where that shows."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from typing import Any, TypeVar

from opentelemetry.instrumentation.utils import suppress_instrumentation
from qdrant_client import AsyncQdrantClient

from lensmesh_chassis.errors import DeadlineExceeded, InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.tls.credentials import peer_security
from search_svc import ranking
from search_svc.aggregates import AggregatedItems, Aggregation
from search_svc.calibration import Calibration, Calibrations
from search_svc.definitions import with_index
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
from search_svc.qdrant import aggregating, collections, facets, indexing, legs, reading, registry, searching, writing
from search_svc.qdrant.address import parse_address
from search_svc.qdrant.engine import QdrantEngine, make_engine
from search_svc.qdrant.faults import CollectionGone, There, translated
from search_svc.qdrant.jobs import QdrantJobs
from search_svc.qdrant.layout import Tuning, point_id
from search_svc.qdrant.predicates import compile_filter
from search_svc.refusals import no_collection, unavailable
from search_svc.settings import SearchSettings
from search_svc.store import Query, StaleCollection, StoreRefused

T = TypeVar("T")
Work = Callable[[AsyncQdrantClient], Coroutine[Any, Any, T]]
# The first that decides "insert only".
MIN_SERVER = (1, 17)
_ATTEMPTS = 5
# Between two looks at an optimizer that builds.
_LOOK_S = 1.0
# It begins a moment after it was told: so many looks in a row that find nothing to do are needed.
_CALM_LOOKS = 2


def open_store(settings: SearchSettings, tracer_provider: Any | None) -> "QdrantStore":
    """Make the store that the settings name. With a tracer provider its calls have spans."""
    address = parse_address(settings.store_url.get_secret_value())
    return QdrantStore(
        make_engine(address, peer_security(settings), tracer_provider),
        prefix=address.prefix,
        tuning=Tuning(settings.qdrant_quantization, settings.qdrant_on_disk),
        hnsw_ef=settings.hnsw_ef,
        connect_s=settings.store_connect_seconds,
    )


class QdrantStore:
    """Items in Qdrant; see `Store`. Definitions never change, so they are remembered.

    A missing collection shows that one is stale.

    Args:
        engine: the way there.
        prefix: what the names of all our collections there begin with.
        tuning: how new collections keep their vectors.
        hnsw_ef: candidates an index looks at where a search does not say.
        connect_s: how long a look at the server may take, in seconds.
        steps: what brings the schema up to date.
    """

    def __init__(
        self,
        engine: QdrantEngine,
        *,
        prefix: str,
        tuning: Tuning,
        hnsw_ef: int,
        connect_s: float,
        steps: Sequence[registry.RegistryStep] = registry.STEPS,
    ) -> None:
        self._engine = engine
        self._prefix = prefix
        self.jobs = QdrantJobs(engine, prefix)
        self._tuning = tuning
        self._hnsw_ef = hnsw_ef
        self._connect_s = connect_s
        self._steps = steps
        self._known: dict[str, Collection] = {}
        self._version = ""

    async def open(self) -> None:
        self._known.clear()

        async def work(client: AsyncQdrantClient) -> str:
            found = await self._server_version(client)
            await registry.prepare(client, self._prefix, self._steps)
            return found

        self._version = await self._look(work)

    async def check(self) -> None:
        if self._version and self._engine.is_busy:
            # It is at work, in this process: a look would wait behind that, and say that nobody answers.
            return
        there = await self._look(lambda client: registry.schema_version(client, self._prefix))
        if not self._version or there != self._steps[-1].version:
            # Emptied, restored or brought up to date by another release behind our back.
            await self.open()
        if self._known:
            names = list(self._known)
            self._note_calibrations(await self._look(lambda client: registry.calibrations(client, self._prefix, names)))
        unbuilt = [name for name, collection in self._known.items() if collection.unbuilt]
        if unbuilt:
            await self._look(lambda client: self._look_again(client, unbuilt))

    async def close(self) -> None:
        await self._engine.close()

    def write_trouble(self) -> str:
        # Qdrant does not tell; a write says it.
        return ""

    def describe(self) -> str:
        return f"qdrant {self._version}".rstrip()

    async def create_collection(self, definition: Definition, *, timeout_s: float) -> CountedCollection:
        return await self._run(
            lambda client: collections.create(client, self._prefix, definition, self._tuning, local=self._engine.local),
            timeout_s,
        )

    async def find_collection(self, name: str, *, fresh: bool, timeout_s: float) -> Collection:
        if fresh or name not in self._known:
            self._known.pop(name, None)
            collection = await self._run(lambda client: self._found(client, name), timeout_s)
            if collection is None:
                raise no_collection(name)
            self._known[name] = collection
            return collection
        return self._known[name]

    async def count_items(self, collection: Collection, *, timeout_s: float) -> CountedCollection:
        async def work(client: AsyncQdrantClient) -> CountedCollection:
            # The parameters of an index change when it is built anew, by another replica it may be.
            now = await registry.find(client, self._prefix, collection.definition.name)
            if now is None or now.key != collection.key:
                raise CollectionGone
            return await collections.counted(client, now)

        return await self._with(collection, work, timeout_s)

    async def list_collections(self, *, after: str, count: int, timeout_s: float) -> Sequence[CountedCollection]:
        return await self._run(
            lambda client: collections.page(client, self._prefix, after=after, count=count), timeout_s
        )

    async def delete_collection(self, name: str, *, timeout_s: float) -> int:
        self._known.pop(name, None)

        return await self._run(lambda client: collections.remove(client, self._prefix, name), timeout_s)

    async def build_indexes(self, collection: Collection, *, timeout_s: float) -> CountedCollection:
        async def work(client: AsyncQdrantClient) -> CountedCollection:
            await indexing.build(client, collection)
            return await collections.counted(client, collection)

        return await self._with(collection, work, timeout_s)

    async def upsert(
        self, collection: Collection, items: Sequence[Item], *, merge: MetadataLimits | None = None, timeout_s: float
    ) -> list[Upserted]:
        async def work(client: AsyncQdrantClient) -> list[Upserted]:
            results = await writing.upsert(client, self._engine, collection, items, merge)
            if collection.unbuilt:
                await indexing.build_where_reached(client, collection)
            return results

        return await self._with(collection, work, timeout_s)

    async def get_items(
        self, collection: Collection, ids: Sequence[str], *, view: View, max_bytes: int, timeout_s: float
    ) -> FetchedItems:
        return await self._with(
            collection,
            lambda client: reading.read_ids(client, collection, ids, view=view, max_bytes=max_bytes),
            timeout_s,
        )

    async def list_hashes(
        self, collection: Collection, filter: Filter, *, after: str, count: int, timeout_s: float
    ) -> HashPage:
        chosen = compile_filter(filter, collection.definition)
        return await self._with(
            collection,
            lambda client: reading.read_hashes(client, collection, chosen, begin=_behind(after), count=count),
            timeout_s,
        )

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
        chosen = None if filter is None else compile_filter(filter, collection.definition)
        offset = _behind(after)

        async def work(client: AsyncQdrantClient) -> ItemPage:
            records, more = await client.scroll(
                collection.key,
                scroll_filter=chosen,
                limit=count,
                offset=offset,
                with_payload=["id"],
            )
            ids = [record.payload["id"] for record in records if record.payload]
            items = await reading.read_ids(client, collection, ids, view=view, max_bytes=max_bytes)
            if items.cut:
                return ItemPage(items.items, self.position(items.items[-1].id))
            return ItemPage(items.items, None if more is None else str(records[-1].id))

        return await self._with(collection, work, timeout_s)

    def position(self, item_id: str) -> str:
        return point_id(item_id)

    async def delete_ids(self, collection: Collection, ids: Sequence[str], *, timeout_s: float) -> int:
        return await self._with(collection, lambda client: writing.delete_ids(client, collection, ids), timeout_s)

    async def delete_matching(self, collection: Collection, filter: Filter, *, timeout_s: float) -> int:
        chosen = compile_filter(filter, collection.definition)
        return await self._with(
            collection, lambda client: writing.delete_matching(client, collection, chosen), timeout_s
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
        chosen = compile_filter(filter, collection.definition)
        return await self._with(
            collection,
            lambda client: writing.delete_batch(
                client, self._prefix, collection, chosen, after=after, count=count, within=within
            ),
            timeout_s,
        )

    async def rebuild_index(
        self, collection: Collection, space: str, wanted: Hnsw, *, lease: Lease, report: Report
    ) -> bool:
        if self._engine.local:
            # There is none.
            return False
        named = collection.definition.space(space)
        if named is None or named.hnsw == wanted:
            # Its optimizer keeps it as it should be.
            return False
        await self._with(collection, lambda client: indexing.retune(client, collection, space, wanted), self._connect_s)
        calm = 0
        while calm < _CALM_LOOKS:
            await asyncio.sleep(_LOOK_S)
            share = await self._with(collection, lambda client: indexing.share(client, collection), self._connect_s)
            calm = calm + 1 if share is None else 0
            if share is not None:
                await report(share)
        changed = with_index(collection.definition, space, wanted)
        await self._with(
            collection, lambda client: registry.redefine(client, self._prefix, collection, changed), self._connect_s
        )
        self._known.pop(collection.definition.name, None)
        return True

    async def undo_rebuild(self, collection: Collection, space: str, wanted: Hnsw, *, lease: Lease) -> None:
        # The optimizer cannot be told to stop, and ends with what its collection is set to.
        return

    async def count_matching(self, collection: Collection, filter: Filter, *, timeout_s: float) -> int:
        chosen = compile_filter(filter, collection.definition)

        async def work(client: AsyncQdrantClient) -> int:
            return (await client.count(collection.key, count_filter=chosen, exact=True)).count

        return await self._with(collection, work, timeout_s)

    async def sample_vectors(
        self, collection: Collection, named: NamedSpace, count: int, *, timeout_s: float
    ) -> list[tuple[str, Numbers]]:
        return await self._with(
            collection, lambda client: reading.sample_vectors(client, collection, named, count), timeout_s
        )

    async def save_calibrations(
        self, collection: Collection, space: str, measured: Sequence[Calibration], *, timeout_s: float
    ) -> None:
        known = await self._with(
            collection,
            lambda client: registry.save_calibrations(client, self._prefix, collection, space, measured),
            timeout_s,
        )
        self._note_calibrations({collection.key: known})

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
                lambda client: ranking.search(
                    legs.LegSource(client, self._engine, collection, query, default_ef=self._hnsw_ef),
                    query,
                ),
                timeout_s,
            )
        return await self._with(
            collection,
            lambda client: searching.search(
                client, collection, query, leg, default_ef=self._hnsw_ef, local=self._engine.local
            ),
            timeout_s,
        )

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
        chosen = None if filter is None else compile_filter(filter, collection.definition)

        async def work(client: AsyncQdrantClient) -> list[Facet]:
            found: list[Facet] = []
            size = 0
            for field in fields:
                found.append(await facets.count(client, collection, field, chosen=chosen, limit=limit))
                size += sum(len(str(counted.value)) for counted in found[-1].counts)
                if size > max_bytes:
                    break
            return found

        return await self._with(collection, work, timeout_s)

    async def aggregate(
        self,
        collection: Collection,
        asked: Sequence[Aggregation],
        *,
        filter: Filter | None,
        max_bytes: int,
        timeout_s: float,
    ) -> AggregatedItems:
        chosen = None if filter is None else compile_filter(filter, collection.definition)

        def work(client: AsyncQdrantClient) -> Coroutine[Any, Any, AggregatedItems]:
            return aggregating.aggregate(client, collection, asked, chosen=chosen, max_bytes=max_bytes)

        return await self._with(collection, work, timeout_s)

    async def _found(self, client: AsyncQdrantClient, name: str) -> Collection | None:
        """Return the collection of that name, and which of its indexes are not built."""
        collection = await registry.find(client, self._prefix, name)
        if collection is None:
            return None
        return replace(collection, unbuilt=frozenset(await indexing.statuses(client, collection)))

    async def _look_again(self, client: AsyncQdrantClient, names: Sequence[str]) -> None:
        """Remember which indexes of collections are built by now."""
        for name in names:
            known = self._known.pop(name, None)
            # One that is gone by now is looked up when it is asked for.
            with suppress(CollectionGone), translated():
                if known is not None and (collection := await self._found(client, name)) is not None:
                    self._known[name] = collection
                    if collection.unbuilt:
                        await indexing.go_on(client, collection)

    async def _server_version(self, client: AsyncQdrantClient) -> str:
        """Return the server's version, as "1.18.1".

        Raises:
            StoreRefused: too old.
        """
        if self._engine.local:
            return f"local mode {version('qdrant-client')}"
        found = (await client.info()).version
        if tuple(int(part) for part in found.split("-")[0].split(".")[:2]) < MIN_SERVER:
            raise StoreRefused(f"Qdrant {found} is too old: {'.'.join(map(str, MIN_SERVER))} or newer is needed")
        return found

    async def _look(self, work: Work[T]) -> T:
        """Run work with a deadline of our own: a server that does not finish counts as one that does not answer."""
        try:
            # Looks go on for ever and belong to no trace.
            with suppress_instrumentation():
                return await self._engine.run(work, timeout_s=self._connect_s)
        except DeadlineExceeded:
            raise unavailable("Qdrant does not answer") from None
        except CollectionGone:
            raise unavailable("Qdrant is not prepared, or lost its collections") from None

    async def _with(self, collection: Collection, work: Work[T], timeout_s: float) -> T:
        """Run work on one collection."""
        try:
            return await self._engine.run(work, timeout_s=timeout_s)
        except CollectionGone:
            self._known.pop(collection.definition.name, None)
            raise StaleCollection from None

    async def _run(self, work: Work[T], timeout_s: float) -> T:
        """Run work that looks at several collections; one may be removed meanwhile, or made by another process."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        for _ in range(_ATTEMPTS):
            try:
                return await self._engine.run(work, timeout_s=deadline - asyncio.get_running_loop().time())
            except (CollectionGone, There):
                continue
        raise unavailable("Qdrant is not prepared, or lost its collections")


def _behind(after: str) -> str | None:
    """Return the offset right behind a position: Qdrant begins at an offset."""
    return str(uuid.UUID(int=_position(after).int + 1)) if after else None


def _position(after: str) -> uuid.UUID:
    try:
        return uuid.UUID(after)
    except ValueError:
        # From the time when the items were in another store.
        raise InvalidInput(
            Reason.PAGE_TOKEN_INVALID,
            "page_token is of another store: begin again without one",
            field="page_token",
        ) from None
