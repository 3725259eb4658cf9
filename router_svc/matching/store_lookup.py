"""What the store is asked for: candidates by vector and by hash, and the items that are told of."""

import asyncio
from collections.abc import Sequence

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InternalFault, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from router_svc.call_scope import CallScope
from router_svc.matching.candidates import HASH_LEG, VECTOR_LEG, candidates_of
from router_svc.matching.errors import of_the_request
from router_svc.matching.image_work import ImageWork
from router_svc.matching.options import MatchOptions
from router_svc.upstreams.methods import BATCH_SEARCH, GET_ITEMS
from router_svc.upstreams.pool import UpstreamPool

# Views of one entry that each search brings: the best by vector is not always the one that fits best.
VIEWS = 3
_ID_ONLY = search_pb2.ReadOptions(view=search_pb2.ITEM_VIEW_ID)
# Items and hits of one call. More would take more room for its answer than other callers leave free.
_ITEMS_AT_ONCE, _HITS_AT_ONCE = 64, 640
# Refusals of a call that holds too much: in two, it may be taken. The filter counts once for each search of a call.
_TOO_MUCH = frozenset(
    {Reason.RESPONSE_TOO_LARGE, Reason.MESSAGE_TOO_LARGE, Reason.TOO_MANY_ITEMS, Reason.FILTER_INVALID}
)


class StoreLookup:
    """Asks the store of one collection about the images of one call."""

    def __init__(self, stores: UpstreamPool, options: MatchOptions, space: str, scope: CallScope) -> None:
        self._stores = stores
        self._options = options
        self._space = space
        self._scope = scope

    async def find_candidates(self, work: Sequence[ImageWork]) -> None:
        """Find the candidates of encoded images, asked for together. Raises what fails all of them."""
        asked: list[tuple[ImageWork, str]] = []
        searches: list[search_pb2.SearchRequest] = []
        for one in work:
            searches.append(self._search(self._by_vector(one.result.embedding)))
            asked.append((one, VECTOR_LEG))
            if one.has_hash:
                leg = search_pb2.SearchLeg(name=HASH_LEG, perceptual_hash=one.result.perceptual_hash)
                searches.append(self._search(leg))
                asked.append((one, HASH_LEG))
        results: list[search_pb2.BatchSearchResult] = []
        most = max(1, _HITS_AT_ONCE // self._options.candidates)
        for start in range(0, len(searches), most):
            results += await self._ask(searches[start : start + most])
        hits: dict[tuple[int, str], Sequence[search_pb2.Hit]] = {}
        for (one, leg_name), result in zip(asked, results, strict=True):
            if result.HasField("error"):
                one.error = one.error or of_the_request(from_status(result.error))
            else:
                hits[one.index, leg_name] = result.response.hits
        for one in work:
            by_vector, by_hash = hits.get((one.index, VECTOR_LEG), ()), hits.get((one.index, HASH_LEG), ())
            one.candidates = candidates_of(by_vector, by_hash, with_entries=bool(self._options.entry_fields))

    async def _ask(self, searches: Sequence[search_pb2.SearchRequest]) -> list[search_pb2.BatchSearchResult]:
        """Return one result for each search, by one call or by as many as make the store take them."""
        request = search_pb2.BatchSearchRequest(searches=searches)
        try:
            answer = await self._stores.call_patiently(BATCH_SEARCH, request, self._scope)
        except LensmeshError as error:
            if len(searches) == 1 or error.reason not in _TOO_MUCH:
                raise of_the_request(error) from error
            half = len(searches) // 2
            return [*await self._ask(searches[:half]), *await self._ask(searches[half:])]
        if len(answer.results) != len(searches):
            raise InternalFault(
                Reason.INTERNAL, f"the search service answered {len(answer.results)} of {len(searches)} searches"
            )
        return list(answer.results)

    async def get(
        self, ids: Sequence[str], read: search_pb2.ReadOptions, *, at_once: int = _ITEMS_AT_ONCE
    ) -> dict[str, search_pb2.Item]:
        """Return those of some items that are there, in as many calls as their size makes necessary."""
        found: dict[str, search_pb2.Item] = {}
        left = [ids[start : start + at_once] for start in range(0, len(ids), at_once)]
        while left:
            part = left.pop()
            request = search_pb2.GetItemsRequest(collection=self._options.collection, ids=part, read=read)
            try:
                answer = await self._stores.call_patiently(GET_ITEMS, request, self._scope)
            except LensmeshError as error:
                if len(part) == 1 or error.reason not in _TOO_MUCH:
                    raise
                half = len(part) // 2
                left += part[:half], part[half:]
                continue
            found.update((item.id, item) for item in answer.items)
            await asyncio.sleep(0)
        return found

    def _by_vector(self, embedding: common_pb2.Embedding) -> search_pb2.SearchLeg:
        return search_pb2.SearchLeg(
            name=VECTOR_LEG, space=self._space, embedding=embedding, modality=common_pb2.MODALITY_IMAGE
        )

    def _search(self, leg: search_pb2.SearchLeg) -> search_pb2.SearchRequest:
        options = self._options
        request = search_pb2.SearchRequest(
            collection=options.collection, legs=[leg], limit=options.candidates, filter=options.filter, read=_ID_ONLY
        )
        if options.entry_fields:
            request.group_by.fields.extend(options.entry_fields)
            request.group_by.size = VIEWS
        return request
