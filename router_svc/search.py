"""Searches in images and words: encoded together, each in the space it asks in, and put to the store."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field

from opentelemetry import trace

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InternalFault, InvalidInput, LensmeshError
from lensmesh_chassis.images.fetching import Fetcher
from lensmesh_chassis.images.inputs import Fetching
from lensmesh_chassis.messages.packing import copy_all
from lensmesh_chassis.messages.unread import take_answer_room
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status, to_status
from lensmesh_chassis.telemetry import spans
from router_svc.answer_sizes import items_of
from router_svc.call_scope import CallScope
from router_svc.collection_cache import CollectionCache
from router_svc.queries import check_search, from_store, to_store
from router_svc.upstreams.images import PackedImage
from router_svc.upstreams.methods import BATCH_SEARCH, SEARCH
from router_svc.upstreams.models import Encoders
from router_svc.upstreams.pool import UpstreamPool
from router_svc.upstreams.together import together


@dataclass(slots=True)
class _Search:
    """One search on its way to the store."""

    request: router_pb2.SearchRequest
    collection: str
    prefix: str
    """Its path in the caller's request: "" or "searches[3]."."""
    vectors: dict[int, common_pb2.Embedding] = field(default_factory=dict)
    """By index of the query."""
    spaces: dict[int, str] = field(default_factory=dict)
    """NamedSpace.name, by index of the query."""
    fetched: dict[int, PackedImage] = field(default_factory=dict)
    """Images given by address, by index of the query."""
    encode_us: int = 0
    error: Exception | None = None

    @property
    def to_encode(self) -> "list[_Query]":
        """The queries in words or by an image."""
        return [
            _Query(self, index, query, kind)
            for index, query in enumerate(self.request.queries)
            if (kind := query.WhichOneof("query")) in ("text", "image")
        ]

    def to_store(self) -> search_pb2.SearchRequest:
        return to_store(self.request, self.collection, self.vectors, self.spaces)


@dataclass(slots=True)
class _Query:
    """One text or image to encode."""

    search: _Search
    index: int
    query: router_pb2.Query
    kind: str
    """ "text" or "image"."""

    @property
    def path(self) -> str:
        return f"{self.search.prefix}queries[{self.index}].{self.kind}"

    @property
    def image(self) -> PackedImage:
        return self.search.fetched.get(self.index) or PackedImage.of(self.query.image)


@dataclass(slots=True)
class _Batch:
    """The texts or the images that are encoded together, in one space."""

    space_id: str
    kind: str
    started: float
    """When its searches began to be prepared, in loop time."""
    queries: list[_Query] = field(default_factory=list)


class SearchHandler:
    """Answers RouterService.Search and BatchSearch."""

    def __init__(
        self, encoders: Encoders, stores: UpstreamPool, collection_cache: CollectionCache, fetcher: Fetcher
    ) -> None:
        self._encoders = encoders
        self._stores = stores
        self._collection_cache = collection_cache
        self._fetcher = fetcher

    async def search(self, request: router_pb2.SearchRequest, scope: CallScope) -> router_pb2.SearchResponse:
        """Return the hits of one search. Raises why there are none."""
        is_again = False
        while True:
            search = _Search(request, self._collection_cache.name(request.collection), "")
            _describe(search)
            async with self._fetching([search], scope) as fetches:
                batches = await self._batches([search], scope, fetches)
                await together([self._encode(batch, scope) for batch in batches])
            _end(batches)
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
            _Search(request, self._collection_cache.name(request.collection), f"searches[{index}].")
            for index, request in enumerate(requests)
        ]
        async with self._fetching(searches, scope) as fetches:
            batches = await self._batches(searches, scope, fetches)
            await together([self._encode(batch, scope) for batch in batches])
        _end(batches)
        sent: list[_Search] = []
        requests_sent: list[search_pb2.SearchRequest] = []
        for search in searches:
            try:
                if search.error is None:
                    requests_sent.append(search.to_store())
                    sent.append(search)
            except Exception as error:  # noqa: BLE001 - as in _look_at
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
            result.response.encode_us, result.response.store_us = search.encode_us, store_us
            result.response.exact = found[id(search)].exact
            # Also where both are 0.
            result.response.SetInParent()
            await copy_all(found[id(search)].hits, result.response.hits)
        return response

    async def _found(self, search: _Search, scope: CallScope) -> router_pb2.SearchResponse:
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
        answer = router_pb2.SearchResponse(encode_us=search.encode_us, store_us=_since_us(started), exact=found.exact)
        await copy_all(found.hits, answer.hits)
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

    def _refused(self, search: _Search, error: LensmeshError) -> LensmeshError:
        if error.reason in (Reason.COLLECTION_NOT_FOUND, Reason.SPACE_MISMATCH, Reason.SPACE_UNKNOWN):
            self._collection_cache.forget(search.collection)
        return from_store(error, search.prefix)

    def _fetching(self, searches: Sequence[_Search], scope: CallScope) -> AbstractAsyncContextManager[Fetching]:
        """Open the account of what a call's images are fetched by, where it has any by address."""
        if any(query.image.uri for search in searches for query in search.request.queries):
            return self._fetcher.for_call(_fetch_seconds(scope))
        return nullcontext(self._fetcher)

    async def _batches(self, searches: Sequence[_Search], scope: CallScope, fetches: Fetching) -> list[_Batch]:
        """Check all, and gather what is to encode, by space and kind. A bad search keeps its error."""
        started = time.perf_counter()
        found: list[tuple[str, _Query]] = []
        for search in searches:
            found += await self._look_at(search, scope)
        await together([self._fetch(query, fetches) for _, query in found if query.query.image.uri])
        batches: dict[tuple[str, str], _Batch] = {}
        for space_id, query in found:
            if query.search.error is None:
                batches.setdefault((space_id, query.kind), _Batch(space_id, query.kind, started)).queries.append(query)
        return list(batches.values())

    async def _look_at(self, search: _Search, scope: CallScope) -> Sequence[tuple[str, _Query]]:
        """List what there is to encode of one search, with the space for each; nothing where it is refused."""
        try:
            check_search(search.request, search.prefix)
            return [(await self._space(query, scope), query) for query in search.to_encode]
        except Exception as error:  # noqa: BLE001 - whatever a search breaks, it breaks for itself
            search.error = error
            return ()

    @staticmethod
    async def _fetch(query: _Query, fetches: Fetching) -> None:
        try:
            content = await fetches.fetch(query.query.image.uri, f"{query.path}.uri")
            query.search.fetched[query.index] = PackedImage.of(common_pb2.Image(content=content))
        except Exception as error:  # noqa: BLE001 - as above
            query.search.error = error

    async def _space(self, query: _Query, scope: CallScope) -> str:
        """Return the VectorSpace.id that a query is meant in; its name is kept for the store."""
        search = query.search
        collection = await self._collection_cache.get(search.collection, scope)
        name = query.query.space
        for named in collection.spaces:
            if name in ("", named.name):
                search.spaces[query.index] = named.name
                return named.space.id
        field_path = f"{search.prefix}queries[{query.index}].space"
        names = ", ".join(named.name for named in collection.spaces)
        raise InvalidInput(
            Reason.SPACE_UNKNOWN,
            f"{field_path} is {name!r}, and the collection {collection.name!r} has: {names}",
            field=field_path,
            metadata={"space": name, "collection": collection.name},
        )

    async def _encode(self, batch: _Batch, scope: CallScope) -> None:
        """Encode one batch. What fails the whole batch fails each of its searches, and no other."""
        options = encoder_pb2.EncodeOptions(
            data_type=common_pb2.DATA_TYPE_FLOAT32, priority=common_pb2.PRIORITY_INTERACTIVE, space_id=batch.space_id
        )
        scope = scope.at(tuple(query.path for query in batch.queries))
        try:
            if batch.kind == "text":
                texts = [query.query.text for query in batch.queries]
                results = await self._encoders.texts.run(texts, options, scope)
            else:
                images = [query.image for query in batch.queries]
                results = await self._encoders.images.run(images, options, scope)
        except Exception as error:  # noqa: BLE001 - of this batch's searches, whatever it is
            for query in batch.queries:
                query.search.error = error
            return
        for query, result in zip(batch.queries, results, strict=True):
            if result.HasField("error"):
                query.search.error = from_status(result.error)
            else:
                query.search.vectors[query.index] = result.embedding


def _end(batches: Sequence[_Batch]) -> None:
    """Note of each search how long it took until all were encoded, and let go of bytes that have been sent."""
    for batch in batches:
        encode_us = _since_us(batch.started)
        for query in batch.queries:
            query.search.encode_us = encode_us
            query.search.fetched.clear()


def _describe(search: _Search) -> None:
    """Tell the call's span what is searched."""
    span = trace.get_current_span()
    if not span.is_recording():
        return
    span.set_attributes({spans.COLLECTION: search.collection, spans.LANE: "interactive"})
    if spans.shows_content():
        texts = [query.text for query in search.request.queries if query.HasField("text")]
        span.set_attribute(spans.QUERY_TEXT, texts)


def _fetch_seconds(scope: CallScope) -> float | None:
    """Return half of what the caller has left, so that an address that does not answer fails in time to say so."""
    return None if scope.deadline is None else max(0.0, scope.deadline - asyncio.get_running_loop().time()) / 2


def _since_us(started: float) -> int:
    return int((time.perf_counter() - started) * 1e6)
