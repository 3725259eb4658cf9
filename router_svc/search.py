"""Searches in pictures and words: encoded together, each in the space it asks in, and put to the store."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from opentelemetry import trace

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InternalFault, InvalidInput, LensmeshError
from lensmesh_chassis.fetching import Fetcher
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.status import from_status, to_status
from lensmesh_chassis.telemetry import spans
from router_svc.catalog import Catalog
from router_svc.peers.models import Encoders
from router_svc.peers.stores import Stores
from router_svc.peers.together import together
from router_svc.queries import check_search, from_store, to_store


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
    """Pictures given by address, by index of the query."""
    encode_us: int = 0
    error: LensmeshError | None = None

    def to_store(self) -> search_pb2.SearchRequest:
        return to_store(self.request, self.collection, self.vectors, self.spaces)


@dataclass(frozen=True, slots=True)
class _Query:
    """One text or picture to encode."""

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


class Searching:
    """Answers RouterService.Search and BatchSearch."""

    def __init__(self, encoders: Encoders, stores: Stores, catalog: Catalog, fetcher: Fetcher) -> None:
        self._encoders = encoders
        self._stores = stores
        self._catalog = catalog
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
            self._catalog.forget(self._catalog.name(request.collection))
            return await self._one(request, deadline)

    async def _one(self, request: router_pb2.SearchRequest, deadline: float | None) -> router_pb2.SearchResponse:
        search = _Search(request, self._catalog.name(request.collection), "")
        span = trace.get_current_span()
        span.set_attributes({spans.COLLECTION: search.collection, spans.LANE: "interactive"})
        if spans.shows_content():
            span.set_attribute(spans.QUERY_TEXT, [query.text for query in request.queries if query.HasField("text")])
        await self._prepare([search], deadline)
        if search.error is not None:
            raise search.error
        started = asyncio.get_running_loop().time()
        sent = search.to_store()
        try:
            found = await self._stores.call(
                lambda stub, timeout_s: stub.Search(sent, timeout=timeout_s), deadline=deadline
            )
        except LensmeshError as error:
            raise self._refused(search, error) from error
        return router_pb2.SearchResponse(hits=found.hits, encode_us=search.encode_us, store_us=_since_us(started))

    async def many(
        self, requests: Sequence[router_pb2.SearchRequest], deadline: float | None
    ) -> list[router_pb2.BatchSearchResult]:
        """One result per search, in order. Raises what fails the store's whole call."""
        searches = [
            _Search(request, self._catalog.name(request.collection), f"searches[{index}].")
            for index, request in enumerate(requests)
        ]
        await self._prepare(searches, deadline)
        sent = [search for search in searches if search.error is None]
        started = asyncio.get_running_loop().time()
        answers = await self._ask_store(sent, deadline)
        store_us = _since_us(started)
        found: dict[int, search_pb2.SearchResponse] = {}
        for search, answer in zip(sent, answers, strict=True):
            if answer.HasField("error"):
                search.error = self._refused(search, from_status(answer.error))
            else:
                found[id(search)] = answer.response
        return [
            router_pb2.BatchSearchResult(error=to_status(search.error))
            if search.error is not None
            else router_pb2.BatchSearchResult(
                response=router_pb2.SearchResponse(
                    hits=found[id(search)].hits, encode_us=search.encode_us, store_us=store_us
                )
            )
            for search in searches
        ]

    async def _ask_store(self, sent: Sequence[_Search], deadline: float | None) -> list[search_pb2.BatchSearchResult]:
        if not sent:
            return []
        request = search_pb2.BatchSearchRequest(searches=[search.to_store() for search in sent])
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
            self._catalog.forget(search.collection)
        return from_store(error, search.prefix)

    async def _prepare(self, searches: Sequence[_Search], deadline: float | None) -> None:
        """Checks all and encodes what is to encode: one batch for each space and kind. A bad search keeps its error."""
        started = asyncio.get_running_loop().time()
        batches: dict[tuple[str, str], list[_Query]] = {}
        for search in searches:
            try:
                check_search(search.request, search.prefix)
                for query in self._to_encode(search):
                    space_id = await self._space(query, deadline)
                    if uri := query.query.image.uri:
                        content = await self._fetcher.fetch(uri, f"{query.path}.uri")
                        search.fetched[query.index] = common_pb2.Image(content=content)
                    batches.setdefault((space_id, query.kind), []).append(query)
            except LensmeshError as error:
                search.error = error
        if batches:
            await together(
                [self._encode(space_id, kind, queries, deadline) for (space_id, kind), queries in batches.items()]
            )
            encode_us = _since_us(started)
            for queries in batches.values():
                for query in queries:
                    query.search.encode_us = encode_us

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
        collection = await self._catalog.get(search.collection, deadline=deadline)
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
        except LensmeshError as error:
            for query in queries:
                query.search.error = error
            return
        for query, result in zip(queries, results, strict=True):
            if result.HasField("error"):
                query.search.error = from_status(result.error)
            else:
                query.search.vectors[query.index] = result.embedding


def _since_us(started: float) -> int:
    return int((asyncio.get_running_loop().time() - started) * 1e6)
