"""Indexes that are left for later, in Qdrant: its optimizer is told never to build graphs, and then to do so.

The optimizer is a collection's, not a space's: where one space leaves its index for later, all of them do.
"""

from collections.abc import Mapping

from qdrant_client import AsyncQdrantClient, models

from lensmesh_chassis.errors import LensmeshError
from search_svc.model import Collection, Definition, Hnsw, IndexState, IndexStatus
from search_svc.qdrant.faults import FULL
from search_svc.refusals import store_full, unavailable

# Kilobytes of vectors from which on a segment gets a graph.
_NEVER = 0
_DEFAULT_KB = 10_000


def is_deferred(definition: Definition) -> bool:
    """Tell whether indexes of a collection are left for later."""
    return any(named.hnsw is not None and named.hnsw.deferred is not None for named in definition.spaces)


def optimizers(definition: Definition) -> models.OptimizersConfigDiff | None:
    """Return what a new collection's optimizer is told; None leaves it to the server."""
    return models.OptimizersConfigDiff(indexing_threshold=_NEVER) if is_deferred(definition) else None


async def build(client: AsyncQdrantClient, collection: Collection) -> None:
    """Let the server build what was left for later. Whoever else writes meanwhile, it goes on by itself."""
    if is_deferred(collection.definition):
        await client.update_collection(
            collection.key, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=_DEFAULT_KB)
        )


async def go_on(client: AsyncQdrantClient, collection: Collection) -> None:
    """Let a server that was restarted in the middle go on: it waits for a word, and says that it does."""
    info = await client.get_collection(collection.key)
    if info.status is models.CollectionStatus.GREY and not _is_off(info):
        await build(client, collection)


async def build_where_reached(client: AsyncQdrantClient, collection: Collection) -> None:
    """Do as `build` does where the collection has as many items as its definition sets for that."""
    spaces = [named for named in collection.definition.spaces if named.hnsw and named.name in collection.unbuilt]
    counts = [named.hnsw.deferred.at_item_count for named in spaces if named.hnsw and named.hnsw.deferred]
    least = min((count for count in counts if count), default=0)
    if least and (await client.count(collection.key, exact=True)).count >= least:
        await build(client, collection)


async def statuses(client: AsyncQdrantClient, collection: Collection) -> Mapping[str, IndexStatus]:
    """Return how far a collection's indexes are, by the name of their space, where they are not built."""
    if not is_deferred(collection.definition):
        return {}
    names = [named.name for named in collection.definition.spaces if named.hnsw is not None]
    info = await client.get_collection(collection.key)
    if _is_off(info):
        return dict.fromkeys(names, IndexStatus(IndexState.DEFERRED))
    error = _error(info.optimizer_status)
    if info.status is models.CollectionStatus.GREEN and error is None:
        return {}
    there = len(collection.definition.spaces) * (info.points_count or 0)
    progress = min((info.indexed_vectors_count or 0) / there, 1.0) if there else 0.0
    return dict.fromkeys(names, IndexStatus(IndexState.BUILDING, progress, error))


async def retune(client: AsyncQdrantClient, collection: Collection, space: str, wanted: Hnsw) -> None:
    """Tell the server to build a space's graphs anew with other parameters. It searches in the old ones meanwhile."""
    hnsw = models.HnswConfigDiff(m=wanted.m, ef_construct=wanted.ef_construction)
    await client.update_collection(collection.key, vectors_config={space: models.VectorParamsDiff(hnsw_config=hnsw)})


async def share(client: AsyncQdrantClient, collection: Collection) -> float | None:
    """Return about how much the optimizer has done of what it does now; None where it has nothing to do.

    Raises:
        Unavailable: it failed.
    """
    info = await client.get_collection(collection.key)
    if (error := _error(info.optimizer_status)) is not None:
        raise error
    if info.status is models.CollectionStatus.GREEN:
        return None
    there = len(collection.definition.spaces) * (info.points_count or 0)
    return min((info.indexed_vectors_count or 0) / there, 1.0) if there else 0.0


def _is_off(info: models.CollectionInfo) -> bool:
    return info.config.optimizer_config.indexing_threshold == _NEVER


def _error(status: models.OptimizersStatus) -> LensmeshError | None:
    if not isinstance(status, models.OptimizersStatusOneOf1):
        return None
    return store_full() if FULL.search(status.error) else unavailable("Qdrant's optimizer failed, as its log says")
