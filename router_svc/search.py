"""Searches in images and words: encoded together, each in the space it asks in, and put to the store."""

import asyncio
from collections.abc import Sequence
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
from router_svc.collection_cache import CollectionCache
from router_svc.queries import check_search, from_store, to_store
from router_svc.upstreams.models import Encoders
from router_svc.upstreams.stores import Stores
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
    fetched: dict[int, common_pb2.Image] = field(default_factory=dict)
    """Images given by address, by index of the query."""
    encode_us: int = 0
    error: Exception | None = None

    def to_store(self) -> search_pb2.SearchRequest:
        return to_store(self.request, self.collection, self.vectors, self.spaces)


@dataclass(frozen=True, slots=True)
class _Query:
    """One text or image to encode."""

    search: _Search
    index: int

    @property
    def path(self) -> str:
        return f"{self.search.prefix}queries[{self.index}].{self.kind}"

    @property
    def kind(self) -> str:
        return "text" if self.query.HasField("text") else "image"

    @property
    def query(self) -> router_pb2.Query:
        return self.search.request.queries[self.index]

    @property
    def image(self) -> common_pb2.Image:
        return self.search.fetched.get(self.index, self.query.image)


class SearchHandler:
    """Answers RouterService.Search and BatchSearch."""

    def __init__(self, encoders: Encoders, stores: Stores, collection_cache: CollectionCache, fetcher: Fetcher) -> None:
        self._encoders = encoders
        self._stores = stores
        self._collection_cache = collection_cache
        self._fetcher = fetcher

    async def one(self, request: router_pb2.SearchRequest, deadline: float | None) -> router_pb2.SearchResponse:
        """The hits of one search. Raises why there are none."""
        try:
            return await self._one(request, deadline)
        except LensmeshError as error:
            asked_in_words = any(query.WhichOneof("query") in ("text", "image") for query in request.queries)
            if error.reason is not Reason.SPACE_MISMATCH or not asked_in_words:
                raise
            # The collection was made anew with another space since its definition was read.
            self._collection_cache.forget(self._collection_cache.name(request.collection))
            return await self._one(request, deadline)

    async def _one(self, request: router_pb2.SearchRequest, deadline: float | None) -> router_pb2.SearchResponse:
        search = _Search(request, self._collection_cache.name(request.collection), "")
        span = trace.get_current_span()
        span.set_attributes({spans.COLLECTION: search.collection, spans.LANE: "interactive"})
        if spans.shows_content():
            span.set_attribute(spans.QUERY_TEXT, [query.text for query in request.queries if query.HasField("text")])
        async with self._fetcher.for_call(_fetch_seconds(deadline)) as fetches:
            await self._prepare([search], deadline, fetches)
        if search.error is not None:
            raise search.error
        started = asyncio.get_running_loop().time()
        sent = search.to_store()
        # Only now: encoding may take long, and holds little.
        await take_answer_room(items_of(sent))
        try:
            found = await self._stores.call(
                lambda stub, timeout_s: stub.Search(sent, timeout=timeout_s), deadline=deadline
            )
        except LensmeshError as error:
            raise self._refused(search, error) from error
        answer = router_pb2.SearchResponse(encode_us=search.encode_us, store_us=_since_us(started))
        await copy_all(found.hits, answer.hits)
        return answer

    async def many(
        self, requests: Sequence[router_pb2.SearchRequest], deadline: float | None
    ) -> router_pb2.BatchSearchResponse:
        """One result per search, in order. Raises what fails the store's whole call."""
        searches = [
            _Search(request, self._collection_cache.name(request.collection), f"searches[{index}].")
            for index, request in enumerate(requests)
        ]
        async with self._fetcher.for_call(_fetch_seconds(deadline)) as fetches:
            await self._prepare(searches, deadline, fetches)
        sent: list[_Search] = []
        requests_sent: list[search_pb2.SearchRequest] = []
        for search in searches:
            try:
                if search.error is None:
                    requests_sent.append(search.to_store())
                    sent.append(search)
            except Exception as error:  # noqa: BLE001 - as in _look_at
                search.error = error
        started = asyncio.get_running_loop().time()
        await take_answer_room(sum(map(items_of, requests_sent)))
        answers = await self._ask_store(requests_sent, deadline)
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
            # Also where both are 0.
            result.response.SetInParent()
            await copy_all(found[id(search)].hits, result.response.hits)
        return response

    async def _ask_store(
        self, sent: Sequence[search_pb2.SearchRequest], deadline: float | None
    ) -> list[search_pb2.BatchSearchResult]:
        if not sent:
            return []
        request = search_pb2.BatchSearchRequest(searches=sent)
        answer = await self._stores.call(
            lambda stub, timeout_s: stub.BatchSearch(request, timeout=timeout_s), deadline=deadline
        )
        if len(answer.results) != len(sent):
            raise InternalFault(
                Reason.INTERNAL, f"the search service answered {len(answer.results)} of {len(sent)} searches"
            )
        return list(answer.results)

    def _refused(self, search: _Search, error: LensmeshError) -> LensmeshError:
        if error.reason in (Reason.COLLECTION_NOT_FOUND, Reason.SPACE_MISMATCH, Reason.SPACE_UNKNOWN):
            self._collection_cache.forget(search.collection)
        return from_store(error, search.prefix)

    async def _prepare(self, searches: Sequence[_Search], deadline: float | None, fetches: Fetching) -> None:
        """Checks all and encodes what is to encode: one batch for each space and kind. A bad search keeps its error."""
        started = asyncio.get_running_loop().time()
        asked: list[tuple[str, _Query]] = []
        for search in searches:
            asked += await self._look_at(search, deadline)
        await together([self._fetch(query, fetches) for _, query in asked if query.query.image.uri])
        batches: dict[tuple[str, str], list[_Query]] = {}
        for space_id, query in asked:
            if query.search.error is None:
                batches.setdefault((space_id, query.kind), []).append(query)
        if batches:
            await together(
                [self._encode(space_id, kind, queries, deadline) for (space_id, kind), queries in batches.items()]
            )
            encode_us = _since_us(started)
            for queries in batches.values():
                for query in queries:
                    query.search.encode_us = encode_us
                    # Its bytes have been sent.
                    query.search.fetched.clear()

    async def _look_at(self, search: _Search, deadline: float | None) -> Sequence[tuple[str, _Query]]:
        """What there is to encode of one search, with the space for each; none where the search is refused."""
        try:
            check_search(search.request, search.prefix)
            return [(await self._space(query, deadline), query) for query in self._to_encode(search)]
        except Exception as error:  # noqa: BLE001 - whatever a search breaks, it breaks for itself
            search.error = error
            return ()

    @staticmethod
    async def _fetch(query: _Query, fetches: Fetching) -> None:
        try:
            content = await fetches.fetch(query.query.image.uri, f"{query.path}.uri")
            query.search.fetched[query.index] = common_pb2.Image(content=content)
        except Exception as error:  # noqa: BLE001 - as above
            query.search.error = error

    @staticmethod
    def _to_encode(search: _Search) -> list[_Query]:
        return [
            _Query(search, index)
            for index, query in enumerate(search.request.queries)
            if query.WhichOneof("query") in ("text", "image")
        ]

    async def _space(self, query: _Query, deadline: float | None) -> str:
        """VectorSpace.id that a query is asked in; its name is kept for the store."""
        search = query.search
        collection = await self._collection_cache.get(search.collection, deadline=deadline)
        asked = query.query.space
        for named in collection.spaces:
            if asked in ("", named.name):
                search.spaces[query.index] = named.name
                return named.space.id
        field_path = f"{search.prefix}queries[{query.index}].space"
        names = ", ".join(named.name for named in collection.spaces)
        raise InvalidInput(
            Reason.SPACE_UNKNOWN,
            f"{field_path} is {asked!r}, and the collection {collection.name!r} has: {names}",
            field=field_path,
            metadata={"space": asked, "collection": collection.name},
        )

    async def _encode(self, space_id: str, kind: str, queries: Sequence[_Query], deadline: float | None) -> None:
        """Vectors of one batch. What fails the whole batch fails each of its searches, and no other."""
        options = encoder_pb2.EncodeOptions(
            data_type=common_pb2.DATA_TYPE_FLOAT32, priority=common_pb2.PRIORITY_INTERACTIVE, space_id=space_id
        )

        def path_of(position: int) -> str:
            return queries[position].path

        try:
            if kind == "text":
                results = await self._encoders.texts(
                    [query.query.text for query in queries], options, path_of=path_of, deadline=deadline
                )
            else:
                results = await self._encoders.images(
                    [query.image for query in queries], options, path_of=path_of, deadline=deadline
                )
        except Exception as error:  # noqa: BLE001 - of this batch's searches, whatever it is
            for query in queries:
                query.search.error = error
            return
        for query, result in zip(queries, results, strict=True):
            if result.HasField("error"):
                query.search.error = from_status(result.error)
            else:
                query.search.vectors[query.index] = result.embedding


def _fetch_seconds(deadline: float | None) -> float | None:
    """Half of what the caller has left: an address that does not answer fails its own search, in time to say so."""
    return None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time()) / 2


def _since_us(started: float) -> int:
    return int((asyncio.get_running_loop().time() - started) * 1e6)
