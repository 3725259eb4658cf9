"""Search in Qdrant: by the index where it can answer, by comparing every vector where it cannot."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from qdrant_client import AsyncQdrantClient, models

from search_svc.candidates import FoundItem, first, page
from search_svc.legs import VectorLeg
from search_svc.model import Collection, Hit, Hits, Numbers
from search_svc.qdrant.layout import point_id
from search_svc.qdrant.points import vector_of
from search_svc.qdrant.predicates import but_not, compile_filter
from search_svc.qdrant.reading import read_ids
from search_svc.refusals import no_item, no_vector
from search_svc.store import Query

# More hits than that come from looking at more candidates.
_MAX_EF = 1000
# With quantized vectors: so many times the hits are looked at again with their whole vectors.
_OVERSAMPLING = 2.0
# Items of one score at the cut of an exact search: beyond so many their order is Qdrant's.
_MAX_TIES = 4096


async def search(
    client: AsyncQdrantClient, collection: Collection, query: Query, leg: VectorLeg, *, default_ef: int, local: bool
) -> Hits:
    """Find what is nearest by the only leg, best first, equal scores by id."""
    chosen = None if query.filter is None else compile_filter(query.filter, collection.definition)
    vector = leg.vector if leg.vector is not None else await vector_of_item(client, collection, leg)
    itself = [models.HasIdCondition(has_id=[point_id(leg.item_id)])] if leg.vector is None else []
    condition = but_not(chosen, *itself)
    numbers = unit(vector)

    async def nearest(count: int, *, exact: bool) -> list[FoundItem]:
        answer = await client.query_points(
            collection.key,
            query=numbers,
            using=leg.space.name,
            query_filter=condition,
            # Local mode looks at every vector, and warns of what it does not need.
            search_params=None if local else params(query, max(default_ef, count), exact=exact),
            limit=count,
            with_payload=["id"],
        )
        return found_items(answer.points)

    async def by_index(count: int) -> list[FoundItem]:
        return await nearest(count, exact=False)

    async def exactly(count: int) -> list[FoundItem]:
        return sorted(await with_ties(nearest, count), key=lambda each: each.order)[:count]

    exact = is_exact(collection, query, leg, local=local)
    places = await first(query.offset + query.limit, by_index=None if exact else by_index, exactly=exactly)
    hits = page(places, query.offset, query.least_score)
    items = await read_ids(
        client, collection, [each.item_id for each in hits], view=query.view, max_bytes=query.max_bytes
    )
    ranks = {each.item_id: (query.offset + place, each.score) for place, each in enumerate(hits, start=1)}
    return Hits(tuple(Hit(item, ranks[item.id][1], ranks[item.id][0]) for item in items.items), items.cut, exact)


def is_exact(collection: Collection, query: Query, leg: VectorLeg, *, local: bool) -> bool:
    """Tell whether every vector is compared: no index is asked, or there is none yet."""
    return query.exact or local or leg.space.hnsw is None or leg.space.name in collection.unbuilt


def found_items(points: Sequence[models.ScoredPoint]) -> list[FoundItem]:
    """Return what Qdrant found."""
    # Told as float32: what is equal there is a tie.
    return [
        FoundItem(0, point.payload["id"], min(max(float(np.float32(point.score)), -1.0), 1.0))
        for point in points
        if point.payload
    ]


class _Nearest(Protocol):
    async def __call__(self, count: int, *, exact: bool) -> list[FoundItem]: ...


async def with_ties(nearest: _Nearest, wanted: int) -> list[FoundItem]:
    """Return the best of all items, and everything that scores like the last of them.

    The ids decide which of those count.
    """
    count = wanted + 1
    while True:
        found = await nearest(count, exact=True)
        if len(found) < count or found[-1].score < found[wanted - 1].score or count > wanted + _MAX_TIES:
            return found
        count = wanted + 2 * (count - wanted) + 16


async def vector_of_item(client: AsyncQdrantClient, collection: Collection, leg: VectorLeg) -> Numbers:
    """Return the vector of a leg's item.

    Raises:
        NotFound: ITEM_NOT_FOUND.
        PreconditionFailed: ITEM_WITHOUT_VECTOR.
    """
    records = await client.retrieve(
        collection.key, [point_id(leg.item_id)], with_payload=["raw"], with_vectors=[leg.space.name]
    )
    if not records:
        raise no_item(collection.definition.name, leg)
    vector = vector_of(records[0], leg.space)
    if vector is None:
        raise no_vector(leg)
    return vector


def unit(vector: Numbers) -> list[float]:
    """Return the vector at unit length, as a dot product needs it to be a cosine."""
    numbers = vector.astype(np.float64)
    scaled: list[float] = (numbers / np.linalg.norm(numbers)).tolist()
    return scaled


def params(query: Query, ef: int, *, exact: bool) -> models.SearchParams:
    """Return how hard a server looks; `ef` counts where the query does not say."""
    if exact:
        return models.SearchParams(exact=True, quantization=models.QuantizationSearchParams(ignore=True))
    return models.SearchParams(
        hnsw_ef=query.hnsw_ef or min(ef, _MAX_EF),
        quantization=models.QuantizationSearchParams(rescore=True, oversampling=_OVERSAMPLING),
    )
