"""A collection whose index is left for later, and how its building is asked for and seen."""

from typing import Any

import numpy as np

from lensmesh.search.v1 import search_pb2
from tests.search.support import (
    Stub,
    collection,
    create,
    found,
    index_status,
    item,
    named_space,
    search_request,
    upsert,
)

LATER = search_pb2.DeferredBuild()
VECTORS = np.random.default_rng(4).standard_normal((300, 4))


async def built(stub: Stub) -> bool:
    return (await index_status(stub)).state == search_pb2.INDEX_STATE_BUILT


async def is_exact(stub: Stub, **fields: Any) -> bool:
    return (await stub.Search(search_request([1, 0, 0, 0], **fields))).exact


async def uses_index(stub: Stub) -> bool:
    """A process learns a moment after the store that an index stands."""
    return not await is_exact(stub)


async def build(stub: Stub) -> search_pb2.Collection:
    return (await stub.BuildIndexes(search_pb2.BuildIndexesRequest(collection="pictures"))).collection


async def filled(stub: Stub, **deferred: int) -> list[str]:
    """A collection whose index is left for later; the ids of what is nearest to one of its items."""
    await create(stub, collection("pictures", named_space(deferred=search_pb2.DeferredBuild(**deferred))))
    await upsert(stub, *(item(f"i{i:03}", vector) for i, vector in enumerate(VECTORS)))
    return await found(stub, search_request(VECTORS[7], limit=20))
