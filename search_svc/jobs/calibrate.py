"""The job that measures what cosines in a space mean. It only reads, so that another attempt begins anew."""

import asyncio

import numpy as np
from numpy.typing import NDArray

from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason
from search_svc.calibration import Calibration, measure_images, measure_texts
from search_svc.jobs.context import JobContext
from search_svc.model import Numbers, StoredItem, View
from search_svc.related import related
from search_svc.wire.calibrate_jobs import CalibrateJob, calibrate_result, read_calibrate

# Vectors of a sample: a million pairs, of which a thousand lie beyond the 99.9th percentile.
SAMPLE = 1_500
# Fewer make no thousand pairs.
LEAST = 50
# Fewer texts say little of a median.
LEAST_TEXTS = 20
_MAX_BYTES = 1 << 26


async def work(context: JobContext) -> str:
    """Measure, keep it with the collection, and return it."""
    asked = read_calibrate(context.job.parameters, context.collection.definition)
    sample = await context.store.sample_vectors(context.collection, asked.space, SAMPLE, timeout_s=context.timeout_s)
    if len(sample) < LEAST:
        raise _too_few(f"{len(sample)} items have a vector {asked.space.name}, and {LEAST} are needed")
    await context.save(0, len(sample) + len(asked.texts), message="measuring")
    ids = [item_id for item_id, _ in sample]
    vectors = _matrix([numbers for _, numbers in sample])
    seen = await _items(context, ids, View.BASIC)
    # An item that went meanwhile is related to nothing but itself.
    items = [seen.get(item_id, StoredItem(item_id)) for item_id in ids]
    pairs = await asyncio.to_thread(related, items, items)
    measured = [await asyncio.to_thread(measure_images, vectors, pairs)]
    if asked.texts:
        measured.append(await _texts(context, asked, items, vectors))
    await context.store.save_calibrations(context.collection, asked.space.name, measured, timeout_s=context.timeout_s)
    await context.save(context.total, context.total)
    return calibrate_result(measured)


async def _texts(
    context: JobContext, asked: CalibrateJob, items: list[StoredItem], vectors: NDArray[np.float32]
) -> Calibration:
    ids = [item_id for item_id, _ in asked.texts]
    space = asked.space.name
    read = await _items(context, ids, View.FULL)
    own = {item_id: numbers for item_id, item in read.items() if (numbers := item.vectors.get(space)) is not None}
    texts = [(item_id, numbers) for item_id, numbers in asked.texts if item_id in own]
    if len(texts) < LEAST_TEXTS:
        raise _too_few(
            f"{len(texts)} of {len(ids)} texts are about items with a vector {space}, and {LEAST_TEXTS} are needed"
        )
    measured = await asyncio.to_thread(
        measure_texts,
        _matrix([numbers for _, numbers in texts]),
        _matrix([own[item_id] for item_id, _ in texts]),
        vectors,
        await asyncio.to_thread(related, [read[item_id] for item_id, _ in texts], items),
    )
    if not measured.pair_count:
        raise _too_few("all items have one caption or look the same, so that no text is unrelated to any")
    return measured


async def _items(context: JobContext, ids: list[str], view: View) -> dict[str, StoredItem]:
    found: dict[str, StoredItem] = {}
    while ids:
        page = await context.store.get_items(
            context.collection, ids, view=view, max_bytes=_MAX_BYTES, timeout_s=context.timeout_s
        )
        # Metadata may be large, and says nothing here.
        found |= {item.id: item._replace(metadata="{}") for item in page.items}
        if not page.cut:
            break
        ids = ids[ids.index(page.items[-1].id) + 1 :]
    return found


def _matrix(vectors: list[Numbers]) -> NDArray[np.float32]:
    return np.stack([numbers.astype(np.float32) for numbers in vectors])


def _too_few(what: str) -> PreconditionFailed:
    return PreconditionFailed(Reason.TOO_FEW_ITEMS, f"{what}: calibrate again when there are more")
