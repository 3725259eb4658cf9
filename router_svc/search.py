"""Searches in images and words: encoded together, and put to the store."""

import time
from collections.abc import Sequence

from opentelemetry import trace

from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InternalFault, LensmeshError
from lensmesh_chassis.images.fetching import Fetcher
from lensmesh_chassis.messages.packing import copy_all
from lensmesh_chassis.messages.unread import take_answer_room
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status, to_status
from lensmesh_chassis.telemetry import spans
from router_svc.answer_sizes import items_of
from router_svc.call_scope import CallScope
from router_svc.collection_cache import CollectionCache
from router_svc.query_encoding import QueryEncoding
from router_svc.search_work import SearchWork
from router_svc.upstreams.methods import BATCH_SEARCH, SEARCH
from router_svc.upstreams.models import Encoders
from router_svc.upstreams.pool import UpstreamPool
from router_svc.upstreams.together import together


class SearchHandler:
    """Answers RouterService.Search and BatchSearch."""

    def __init__(
        self, encoders: Encoders, stores: UpstreamPool, collection_cache: CollectionCache, fetcher: Fetcher
    ) -> None:
        self._encoding = QueryEncoding(encoders, collection_cache, fetcher)
        self._stores = stores
        self._collection_cache = collection_cache

    async def search(self, request: router_pb2.SearchRequest, scope: CallScope) -> router_pb2.SearchResponse:
        """Return the hits of one search. Raises why there are none."""
        is_again = False
        while True:
            search = SearchWork(request, self._collection_cache.name(request.collection), "")
            _describe(search)
            async with self._encoding.fetching([search], scope) as fetches:
                await together(await self._encoding.jobs([search], scope, fetches))
            try:
                return await self._found(search, scope)
            except LensmeshError as error:
                if is_again or error.reason is not Reason.SPACE_MISMATCH or not search.to_encode:
                    raise
            # The collection was made anew with another space since its definition was read.
            self._collection_cache.forget(search.collection)
            is_again = True

    async def batch_search(
        self, requests: Sequence[router_pb2.SearchRequest], scope: CallScope
    ) -> router_pb2.BatchSearchResponse:
        """Return one result per search, in order. Raises what fails the store's whole call."""
        searches = [
            SearchWork(request, self._collection_cache.name(request.collection), f"searches[{index}].")
            for index, request in enumerate(requests)
        ]
        async with self._encoding.fetching(searches, scope) as fetches:
            await together(await self._encoding.jobs(searches, scope, fetches))
        sent: list[SearchWork] = []
        requests_sent: list[search_pb2.SearchRequest] = []
        for search in searches:
            try:
                if search.error is None:
                    requests_sent.append(search.to_store())
                    sent.append(search)
            except Exception as error:  # noqa: BLE001 - whatever a search breaks, it breaks for itself
                search.error = error
        started = time.perf_counter()
        await take_answer_room(sum(map(items_of, requests_sent)))
        answers = await self._ask_store(requests_sent, scope)
        store_us = _since_us(started)
        found: dict[int, search_pb2.SearchResponse] = {}
        for search, answer in zip(sent, answers, strict=True):
            try:
                if answer.HasField("error"):
                    search.error = self._refused(search, from_status(answer.error))
                else:
                    found[id(search)] = answer.response
            except Exception as error:  # noqa: BLE001 - an answer that nobody foresaw is its own search's
                search.error = error
        response = router_pb2.BatchSearchResponse()
        for search in searches:
            result = response.results.add()
            if search.error is not None:
                result.error.CopyFrom(to_status(search.error))
                continue
            await _write(search, found[id(search)], store_us, result.response)
        return response

    async def _found(self, search: SearchWork, scope: CallScope) -> router_pb2.SearchResponse:
        """Put one encoded search to the store."""
        if search.error is not None:
            raise search.error
        started = time.perf_counter()
        sent = search.to_store()
        # Only now: encoding may take long, and holds little.
        await take_answer_room(items_of(sent))
        try:
            found = await self._stores.call_patiently(SEARCH, sent, scope)
        except LensmeshError as error:
            raise self._refused(search, error) from error
        answer = router_pb2.SearchResponse()
        await _write(search, found, _since_us(started), answer)
        return answer

    async def _ask_store(
        self, sent: Sequence[search_pb2.SearchRequest], scope: CallScope
    ) -> list[search_pb2.BatchSearchResult]:
        if not sent:
            return []
        answer = await self._stores.call_patiently(BATCH_SEARCH, search_pb2.BatchSearchRequest(searches=sent), scope)
        if len(answer.results) != len(sent):
            raise InternalFault(
                Reason.INTERNAL, f"the search service answered {len(answer.results)} of {len(sent)} searches"
            )
        return list(answer.results)

    def _refused(self, search: SearchWork, error: LensmeshError) -> LensmeshError:
        if error.reason in (Reason.COLLECTION_NOT_FOUND, Reason.SPACE_MISMATCH, Reason.SPACE_UNKNOWN):
            self._collection_cache.forget(search.collection)
        return search.refused(error)


async def _write(
    search: SearchWork, found: search_pb2.SearchResponse, store_us: int, answer: router_pb2.SearchResponse
) -> None:
    answer.encode_us, answer.store_us, answer.exact = search.encode_us, store_us, found.exact
    # Also where all of them are 0.
    answer.SetInParent()
    answer.failed_queries.extend(search.failed_queries(found.failed_legs))
    await copy_all(found.hits, answer.hits)


def _describe(search: SearchWork) -> None:
    """Tell the call's span what is searched."""
    span = trace.get_current_span()
    if not span.is_recording():
        return
    span.set_attributes({spans.COLLECTION: search.collection, spans.LANE: "interactive"})
    if spans.shows_content():
        texts = [query.text for query in search.request.queries if query.HasField("text")]
        span.set_attribute(spans.QUERY_TEXT, texts)


def _since_us(started: float) -> int:
    return int((time.perf_counter() - started) * 1e6)
