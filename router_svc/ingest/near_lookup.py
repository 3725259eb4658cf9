"""The nearest items of what the store has, by perceptual hash."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InternalFault, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from router_svc.call_scope import CallScope
from router_svc.upstreams.methods import BATCH_SEARCH
from router_svc.upstreams.pool import UpstreamPool

LEAST_QUALITY: Final = 50
"""The quality below which an image has no near-duplicates."""
_HASH_BITS: Final = 256


@dataclass(frozen=True, slots=True, order=True)
class NearItem:
    """An item that looks the same: the nearer is less, and of equally near ones the first by id."""

    distance: int
    id: str


@dataclass(frozen=True, slots=True)
class NearQuery:
    """An image, for which the nearest other item is looked for."""

    item_id: str
    hash: common_pb2.PerceptualHash


class NearLookup:
    """Asks the store of one collection for the nearest items of batches of images."""

    def __init__(self, stores: UpstreamPool, collection: str, max_distance: int, scope: CallScope) -> None:
        self._stores = stores
        self._collection = collection
        self._max_distance = max_distance
        self._scope = scope

    async def run(self, batch: Sequence[NearQuery]) -> list[NearItem | LensmeshError | None]:
        """Return the nearest other item of each, None where there is none. Raises what the store raises for all."""
        request = search_pb2.BatchSearchRequest(searches=[self._search(query) for query in batch])
        answer = await self._stores.call_patiently(BATCH_SEARCH, request, self._scope)
        if len(answer.results) != len(batch):
            raise InternalFault(
                Reason.INTERNAL, f"the search service answered {len(answer.results)} of {len(batch)} searches"
            )
        return [self._nearest(result) for result in answer.results]

    def _search(self, query: NearQuery) -> search_pb2.SearchRequest:
        itself = search_pb2.Filter(condition=search_pb2.Condition(field="$id"))
        itself.condition.equals.string_value = query.item_id
        others = search_pb2.Filter()
        getattr(others, "not").CopyFrom(itself)
        return search_pb2.SearchRequest(
            collection=self._collection,
            legs=[search_pb2.SearchLeg(perceptual_hash=query.hash)],
            filter=others,
            limit=1,
            read=search_pb2.ReadOptions(view=search_pb2.ITEM_VIEW_ID),
        )

    def _nearest(self, result: search_pb2.BatchSearchResult) -> NearItem | LensmeshError | None:
        if result.HasField("error"):
            return from_status(result.error)
        for hit in result.response.hits:
            distance = round((1 - hit.score) * _HASH_BITS)
            if distance <= self._max_distance:
                return NearItem(distance, hit.item.id)
        return None
