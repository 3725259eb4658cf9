"""The job that builds the indexes of a collection's spaces anew, one after the other, beside the old ones."""

import asyncio
import json

from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.reasons import Reason
from search_svc.jobs.context import JobContext
from search_svc.jobs.errors import JobFailed
from search_svc.model import Hnsw, IndexState
from search_svc.wire.jobs import read_rebuild

# Between two looks at an index that was left for later and is built first.
_LOOK_S = 0.5


async def work(context: JobContext) -> str:
    """Rebuild the indexes. Those that an earlier attempt has done are left alone."""
    kept = context.checkpoint
    if not kept:
        count = (await context.store.count_items(context.collection, timeout_s=context.timeout_s)).item_count
        # Kept, since the collection's own definition changes on the way.
        wanted = {
            space: [hnsw.m, hnsw.ef_construction]
            for space, hnsw in read_rebuild(context.job.parameters, context.collection.definition).items()
        }
        kept = {"wanted": wanted, "items": count, "built": [], "unchanged": []}
        await context.save(0, count * len(wanted), checkpoint=kept)
    try:
        for space, (m, ef_construction) in kept["wanted"].items():
            if space not in (*kept["built"], *kept["unchanged"]):
                is_built = await _rebuilt(context, space, Hnsw(m, ef_construction), kept["items"])
                kept["built" if is_built else "unchanged"].append(space)
                await context.save(_units(kept), checkpoint=kept)
    except LensmeshError as error:
        if error.reason is Reason.STORE_FULL:
            # Tried again and again it would fill the disk again and again, beside all writes.
            raise JobFailed(error) from error
        raise
    return json.dumps({"built_spaces": kept["built"], "unchanged_spaces": kept["unchanged"]})


async def undo(context: JobContext) -> None:
    """Remove what a broken rebuild left. Indexes that took over stay."""
    kept = context.checkpoint
    for space, (m, ef_construction) in kept.get("wanted", {}).items():
        if space not in (*kept["built"], *kept["unchanged"]):
            await context.store.undo_rebuild(context.collection, space, Hnsw(m, ef_construction), lease=context.lease)


async def _rebuilt(context: JobContext, space: str, wanted: Hnsw, items: int) -> bool:
    """Rebuild one index. Return False where there was nothing to do."""
    before = context.done

    async def report(share: float) -> None:
        await context.save(
            max(context.done, before + int(share * items)), message=f"building the index of the space {space}"
        )

    if await _built_first(context, space):
        named = context.collection.definition.space(space)
        if named is not None and named.hnsw == wanted:
            # It is new.
            return True
    return await context.store.rebuild_index(context.collection, space, wanted, lease=context.lease, report=report)


async def _built_first(context: JobContext, space: str) -> bool:
    """Let the store build an index that was left for later. Return False where that was done before."""
    is_left = False
    while True:
        counted = await context.store.count_items(context.collection, timeout_s=context.timeout_s)
        status = counted.indexes.get(space)
        if status is None or status.state is IndexState.BUILT:
            return is_left
        if status.error is not None:
            raise status.error
        if status.state is IndexState.DEFERRED:
            await context.store.build_indexes(context.collection, timeout_s=context.timeout_s)
        is_left = True
        await context.save(message=f"waiting for the first build of the index of the space {space}")
        await asyncio.sleep(_LOOK_S)


def _units(kept: dict[str, object]) -> int:
    done = [kept["built"], kept["unchanged"]]
    items = kept["items"]
    assert isinstance(items, int)
    return items * sum(len(spaces) for spaces in done if isinstance(spaces, list))
