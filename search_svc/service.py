"""SearchService: validate, call the store, translate."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.channels import remaining_s
from lensmesh_chassis.errors import InvalidInput, NotFound, PreconditionFailed
from lensmesh_chassis.limits import check_filters, check_items
from lensmesh_chassis.messages.unread import take_answer_room
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.request_id import request_bytes
from search_svc.batch import answer_batch
from search_svc.duplicates_servicer import DuplicatesServicer
from search_svc.filters import Filter
from search_svc.model import Change, Collection, ItemOutcome
from search_svc.refusals import no_collection
from search_svc.settings import SearchSettings
from search_svc.store import StaleCollection, Store
from search_svc.threads import SMALL_BYTES, Threads
from search_svc.wire.aggregates import answer_items, read_aggregations, work_bytes, write_aggregates
from search_svc.wire.collections import is_collection_name, read_definition, write_collection, write_time
from search_svc.wire.facets import FACET_VALUES, read_facet_fields, write_facets
from search_svc.wire.filters import read_filter
from search_svc.wire.items import check_ids, content_bytes, merges_metadata, read_items, read_options, write_item
from search_svc.wire.pages import Room, read_count, read_token, too_large, write_token
from search_svc.wire.relevance import calibrated
from search_svc.wire.searches import read_search, write_hits

T = TypeVar("T")
_PAGE_SIZE = 100
# A collection may be replaced by another between looking it up and using it; nobody does so for long.
_LOOKUPS = 5
_OUTCOMES = {
    ItemOutcome.CREATED: search_pb2.UPSERT_OUTCOME_CREATED,
    ItemOutcome.UPDATED: search_pb2.UPSERT_OUTCOME_UPDATED,
    ItemOutcome.UNCHANGED: search_pb2.UPSERT_OUTCOME_UNCHANGED,
}

_CHANGES = {
    Change.CONTENT: search_pb2.ITEM_CHANGE_CONTENT,
    Change.VECTORS: search_pb2.ITEM_CHANGE_VECTORS,
    Change.CAPTION: search_pb2.ITEM_CHANGE_CAPTION,
    Change.METADATA: search_pb2.ITEM_CHANGE_METADATA,
    Change.IMAGE_URI: search_pb2.ITEM_CHANGE_IMAGE_URI,
    Change.LOCAL_FEATURES: search_pb2.ITEM_CHANGE_LOCAL_FEATURES,
}


class SearchServicer(DuplicatesServicer):
    """The servicer of SearchService, see search.proto.

    It raises domain errors; the chassis turns them into statuses.
    """

    def __init__(
        self,
        store: Store,
        threads: Threads,
        settings: SearchSettings,
        server_info: Callable[[], common_pb2.ServerInfo],
        *,
        draining: asyncio.Event,
        job_started: Callable[[], None],
    ) -> None:
        super().__init__(store, threads, settings, draining, job_started)
        self._server_info = server_info

    async def GetInfo(self, request: search_pb2.GetInfoRequest, context: Any) -> search_pb2.GetInfoResponse:
        limits = common_pb2.Limits(
            max_message_bytes=self._settings.max_message_bytes,
            max_items=self._settings.max_items,
            max_text_chars=self._settings.max_text_chars,
            max_metadata_bytes=self._settings.max_metadata_bytes,
            max_metadata_depth=self._settings.max_metadata_depth,
            max_filter_values=self._settings.max_filter_values,
            max_page_size=self._settings.max_page_size,
            max_hits=self._settings.max_hits,
            max_offset=self._settings.max_offset,
        )
        return search_pb2.GetInfoResponse(store=self._store.describe(), limits=limits, server=self._server_info())

    async def CreateCollection(
        self, request: search_pb2.CreateCollectionRequest, context: Any
    ) -> search_pb2.CreateCollectionResponse:
        definition = read_definition(request.collection)
        made = await self._store.create_collection(definition, timeout_s=self._left(context))
        return search_pb2.CreateCollectionResponse(collection=write_collection(made))

    async def GetCollection(
        self, request: search_pb2.GetCollectionRequest, context: Any
    ) -> search_pb2.GetCollectionResponse:
        async def work(collection: Collection) -> search_pb2.GetCollectionResponse:
            counted = await self._store.count_items(collection, timeout_s=self._left(context))
            return search_pb2.GetCollectionResponse(collection=write_collection(counted))

        return await self._with(request.name, work, context, field="name")

    async def ListCollections(
        self, request: search_pb2.ListCollectionsRequest, context: Any
    ) -> search_pb2.ListCollectionsResponse:
        count = read_count(request.page_size, self._settings.max_page_size, _PAGE_SIZE, "page_size")
        after = read_token("collections", request.page_token)
        found = await self._store.list_collections(after=after, count=count + 1, timeout_s=self._left(context))
        response = search_pb2.ListCollectionsResponse()
        room = Room(self._settings.max_message_bytes)
        for counted in found[:count]:
            message = write_collection(counted)
            if not room.take(message):
                break
            response.collections.append(message)
        if len(response.collections) < len(found):
            response.next_page_token = write_token("collections", response.collections[-1].name)
        return response

    async def DeleteCollection(
        self, request: search_pb2.DeleteCollectionRequest, context: Any
    ) -> search_pb2.DeleteCollectionResponse:
        _check_named(request.name, "name")
        if not is_collection_name(request.name):
            return search_pb2.DeleteCollectionResponse()
        count = await self._store.delete_collection(request.name, timeout_s=self._left(context))
        return search_pb2.DeleteCollectionResponse(deleted_count=count)

    async def BuildIndexes(
        self, request: search_pb2.BuildIndexesRequest, context: Any
    ) -> search_pb2.BuildIndexesResponse:
        async def work(collection: Collection) -> search_pb2.BuildIndexesResponse:
            counted = await self._store.build_indexes(collection, timeout_s=self._left(context))
            return search_pb2.BuildIndexesResponse(collection=write_collection(counted))

        return await self._with(request.collection, work, context)

    async def UpsertItems(self, request: search_pb2.UpsertItemsRequest, context: Any) -> search_pb2.UpsertItemsResponse:
        check_items(len(request.items), self._settings.max_items, "items")
        merge = self._settings.metadata_limits if merges_metadata(request.metadata_policy) else None

        async def work(collection: Collection) -> search_pb2.UpsertItemsResponse:
            items = await self._threads.run(
                lambda: read_items(
                    request.items,
                    collection.definition,
                    limits=self._settings.metadata_limits,
                    max_text_chars=self._settings.max_text_chars,
                ),
                request_bytes.get(),
            )
            response = search_pb2.UpsertItemsResponse()
            for done in await self._store.upsert(collection, items, merge=merge, timeout_s=self._left(context)):
                result = response.results.add(id=done.id, outcome=_OUTCOMES[done.outcome])
                result.changes.extend(_CHANGES[change] for change in done.changes)
                write_time(done.update_time, result.update_time)
            return response

        return await self._with(request.collection, work, context)

    async def GetItems(self, request: search_pb2.GetItemsRequest, context: Any) -> search_pb2.GetItemsResponse:
        check_items(len(request.ids), self._settings.max_items, "ids")
        check_ids(request.ids, "ids")
        reading = read_options(request.read)
        limit = self._settings.max_message_bytes
        await take_answer_room(reading.answer_items(len(request.ids)))

        async def work(collection: Collection) -> search_pb2.GetItemsResponse:
            found = await self._store.get_items(
                collection, request.ids, view=reading.view, max_bytes=limit, timeout_s=self._left(context)
            )

            def write() -> search_pb2.GetItemsResponse:
                response, room = search_pb2.GetItemsResponse(), Room(limit)
                for item in found.items:
                    message = response.items.add()
                    write_item(item, collection.definition, reading, message)
                    if not room.take(message):
                        raise too_large("ids", len(response.items) - 1, limit, reading.less)
                if found.cut:
                    raise too_large("ids", len(found.items), limit, reading.less)
                there = {item.id for item in found.items}
                response.missing_ids.extend(item_id for item_id in request.ids if item_id not in there)
                return response

            return await self._threads.run(write, content_bytes(found.items))

        return await self._with(request.collection, work, context)

    async def DeleteItems(self, request: search_pb2.DeleteItemsRequest, context: Any) -> search_pb2.DeleteItemsResponse:
        selector = request.WhichOneof("selector")
        if selector is None:
            raise InvalidInput(
                Reason.QUERY_INVALID,
                "the request names no items: set ids or filter (all: {} for all)",
                field="selector",
            )
        if selector == "ids":
            check_items(len(request.ids.ids), self._settings.max_items, "ids.ids")
            check_ids(request.ids.ids, "ids.ids")
        chosen, _ = await self._chosen(request.filter if selector == "filter" else None)

        async def work(collection: Collection) -> search_pb2.DeleteItemsResponse:
            left = self._left(context)
            if chosen is None:
                count = await self._store.delete_ids(collection, request.ids.ids, timeout_s=left)
            else:
                count = await self._store.delete_matching(collection, chosen, timeout_s=left)
            return search_pb2.DeleteItemsResponse(deleted_count=count)

        return await self._with(request.collection, work, context)

    async def ListItems(self, request: search_pb2.ListItemsRequest, context: Any) -> search_pb2.ListItemsResponse:
        reading = read_options(request.read)
        chosen, told = await self._chosen(request.filter if request.HasField("filter") else None)
        count = read_count(request.page_size, self._settings.max_page_size, _PAGE_SIZE, "page_size")
        binding = f"items of {request.collection} where {told}"
        after = read_token(binding, request.page_token)
        limit = self._settings.max_message_bytes
        await take_answer_room(reading.answer_items(count))

        async def work(collection: Collection) -> search_pb2.ListItemsResponse:
            page = await self._store.list_items(
                collection,
                filter=chosen,
                after=after,
                count=count,
                view=reading.view,
                max_bytes=limit,
                timeout_s=self._left(context),
            )

            def write() -> search_pb2.ListItemsResponse:
                response, room, next_after = search_pb2.ListItemsResponse(), Room(limit), page.next_after
                for i, item in enumerate(page.items):
                    message = response.items.add()
                    write_item(item, collection.definition, reading, message)
                    if not room.take(message):
                        if i == 0:
                            raise too_large("page_size", 0, limit, reading.less)
                        del response.items[-1]
                        next_after = self._store.position(page.items[i - 1].id)
                        break
                response.next_page_token = "" if next_after is None else write_token(binding, next_after)
                return response

            return await self._threads.run(write, content_bytes(page.items))

        return await self._with(request.collection, work, context)

    async def Search(self, request: search_pb2.SearchRequest, context: Any) -> search_pb2.SearchResponse:
        check_filters({"filter": request.filter}, self._settings.max_filter_values)
        await take_answer_room(self._answer_items(request))
        return await self._search(request, context)

    async def _search(self, request: search_pb2.SearchRequest, context: Any) -> search_pb2.SearchResponse:
        reading = read_options(request.read)

        async def work(collection: Collection) -> search_pb2.SearchResponse:
            definition = collection.definition
            query = await self._threads.run(
                lambda: read_search(request, definition, reading, self._settings, collection.calibrations),
                request_bytes.get(),
            )
            hits = await self._store.search(collection, query, timeout_s=self._left(context))
            known = calibrated(query.legs, collection.calibrations)
            return await self._threads.run(
                lambda: write_hits(hits, query, definition, reading, known),
                content_bytes([hit.item for hit in hits.hits]),
            )

        return await self._with(request.collection, work, context)

    def _answer_items(self, search: search_pb2.SearchRequest) -> int:
        hits = min(search.limit or self._settings.default_hits, self._settings.max_hits)
        return read_options(search.read).answer_items(hits)

    async def BatchSearch(self, request: search_pb2.BatchSearchRequest, context: Any) -> search_pb2.BatchSearchResponse:
        check_items(len(request.searches), self._settings.max_items, "searches")
        filters = {f"searches[{i}].filter": search.filter for i, search in enumerate(request.searches)}
        check_filters(filters, self._settings.max_filter_values)
        await take_answer_room(sum(map(self._answer_items, request.searches)))
        return await answer_batch(
            request.searches,
            lambda search: self._search(search, context),
            parallel=self._settings.batch_parallel,
            max_message_bytes=self._settings.max_message_bytes,
        )

    async def CountFacets(self, request: search_pb2.CountFacetsRequest, context: Any) -> search_pb2.CountFacetsResponse:
        chosen, _ = await self._chosen(request.filter if request.HasField("filter") else None)
        count = read_count(request.limit, self._settings.max_page_size, FACET_VALUES, "limit")
        limit = self._settings.max_message_bytes

        async def work(collection: Collection) -> search_pb2.CountFacetsResponse:
            fields = read_facet_fields(request.fields, collection.definition)
            await take_answer_room(len(fields) * count)
            facets = await self._store.count_facets(
                collection, fields, filter=chosen, limit=count, max_bytes=limit, timeout_s=self._left(context)
            )
            return await self._threads.run(lambda: write_facets(facets, len(fields), limit), 64 * count * len(fields))

        return await self._with(request.collection, work, context)

    async def Aggregate(self, request: search_pb2.AggregateRequest, context: Any) -> search_pb2.AggregateResponse:
        chosen, _ = await self._chosen(request.filter if request.HasField("filter") else None)
        limit = self._settings.max_message_bytes

        async def work(collection: Collection) -> search_pb2.AggregateResponse:
            definition = collection.definition
            # A zone that is new here takes as long to read as a large message.
            asked = await self._threads.run(
                lambda: read_aggregations(request.aggregations, definition, self._settings.max_page_size), SMALL_BYTES
            )
            await take_answer_room(answer_items(asked))
            found = await self._store.aggregate(
                collection, asked, filter=chosen, max_bytes=limit, timeout_s=self._left(context)
            )
            return await self._threads.run(lambda: write_aggregates(found, asked, limit), work_bytes(found))

        return await self._with(request.collection, work, context)

    async def _with(
        self, name: str, work: Callable[[Collection], Awaitable[T]], context: Any, *, field: str = "collection"
    ) -> T:
        """Do `work` with the collection of that name, once more if the collection was replaced meanwhile."""
        _check_named(name, field)
        if not is_collection_name(name):
            raise no_collection(name)
        collection = await self._store.find_collection(name, fresh=False, timeout_s=self._left(context))
        for _ in range(_LOOKUPS):
            try:
                return await work(collection)
            except (StaleCollection, InvalidInput, NotFound, PreconditionFailed) as error:
                # What was remembered may be another collection than the one that bears the name by now.
                now = await self._store.find_collection(name, fresh=True, timeout_s=self._left(context))
                # What is known of cosines may be newer too.
                is_same = now.key == collection.key and now.calibrations == collection.calibrations
                if is_same and not isinstance(error, StaleCollection):
                    raise
                collection = now
        raise no_collection(name)

    async def _chosen(self, message: search_pb2.Filter | None) -> tuple[Filter | None, str]:
        """Read a filter, beside the event loop where it is long.

        Return with it a text that tells it from other filters.
        """
        if message is None:
            return None, "None"
        check_filters({"filter": message}, self._settings.max_filter_values)

        def read() -> tuple[Filter, str]:
            chosen = read_filter(message)
            return chosen, repr(chosen)

        return await self._threads.run(read, request_bytes.get())

    def _left(self, context: Any) -> float:
        return remaining_s(context, self._settings.call_seconds)


def _check_named(name: str, field: str) -> None:
    if not name:
        raise InvalidInput(Reason.COLLECTION_INVALID, f"{field} is empty: name a collection", field=field)
