"""Writing of items: what is there is read first, and only what differs is written.

Each item is written whole. A call's items are not written at one moment, and where the call fails some may have been.
"""

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np
from qdrant_client import AsyncQdrantClient, models

from search_svc.jobs.store import LeasedWrite
from search_svc.metadata import MetadataLimits, check_merged, merged, same_json
from search_svc.model import (
    ROUNDING,
    Change,
    Collection,
    DeletedBatch,
    Item,
    ItemOutcome,
    StoredItem,
    Upserted,
    View,
)
from search_svc.qdrant import job_points
from search_svc.qdrant.engine import QdrantEngine
from search_svc.qdrant.layout import FEATURE_DIGEST, point_id
from search_svc.qdrant.points import from_record, to_point
from search_svc.qdrant.reading import PIECE, read_points
from search_svc.qdrant.registry import STRONG

# Of one write. The client translates it on the event loop, and the server holds it a few times over.
_WRITE_BYTES = 2 * 1024 * 1024
_WRITE_ITEMS = 64
# The resolution of times that are kept.
_TICK = timedelta(microseconds=1)


async def upsert(
    client: AsyncQdrantClient,
    engine: QdrantEngine,
    collection: Collection,
    items: Sequence[Item],
    merge: MetadataLimits | None,
) -> list[Upserted]:
    """Write items; results are in their order. Merged metadata must fit into `merge` before anything is written."""
    if merge is not None:
        items = await _with_stored_metadata(client, collection, items, merge)
    now = datetime.now(UTC)
    results: list[Upserted] = []
    waiting: list[_Change] = []
    size = 0
    for begin in range(0, len(items), PIECE):
        piece = items[begin : begin + PIECE]
        records = await read_points(client, collection, [item.id for item in piece], View.FULL, FEATURE_DIGEST)
        for item in piece:
            record = records.get(item.id)
            old = None if record is None else from_record(record, collection.definition, View.FULL)
            digest = bytes.fromhex((record.payload or {}).get(FEATURE_DIGEST, "")) if record is not None else b""
            result, created = _judged(item, old, digest, now)
            results.append(result)
            if result.outcome is not ItemOutcome.UNCHANGED:
                waiting.append(_Change(item, created, result.update_time))
                size += waiting[-1].size
            if size > _WRITE_BYTES or len(waiting) == _WRITE_ITEMS:
                await _write(client, engine, collection, waiting)
                waiting, size = [], 0
    await _write(client, engine, collection, waiting)
    return results


async def _with_stored_metadata(
    client: AsyncQdrantClient, collection: Collection, items: Sequence[Item], limits: MetadataLimits
) -> list[Item]:
    complete: list[Item] = []
    for begin in range(0, len(items), PIECE):
        piece = items[begin : begin + PIECE]
        records = await read_points(client, collection, [item.id for item in piece], View.BASIC)
        stored = {item_id: (record.payload or {})["metadata"] for item_id, record in records.items()}
        complete += [
            replace(item, metadata=merged(stored[item.id], item.metadata)) if item.id in stored else item
            for item in piece
        ]
    check_merged({place: item.metadata for place, item in enumerate(complete)}, limits)
    return complete


@dataclass(frozen=True)
class _Change:
    """An item to be written."""

    item: Item
    created: datetime
    updated: datetime

    @cached_property
    def size(self) -> int:
        """About how many bytes it takes to send the item to Qdrant."""
        # Metadata is kept as text and by its fields, each of which has a name and a few bytes around it.
        features = self.item.local_features.size * 4 // 3 if self.item.local_features else 0
        return features + 8 * len(self.item.metadata) + sum(4 * len(vector) for vector in self.item.vectors.values())


async def _write(
    client: AsyncQdrantClient, engine: QdrantEngine, collection: Collection, changes: Sequence[_Change]
) -> None:
    if not changes:
        return

    def make() -> list[models.PointStruct]:
        return [
            to_point(change.item, created=change.created, updated=change.updated, definition=collection.definition)
            for change in changes
        ]

    points = await engine.beside(make, sum(change.size for change in changes))
    await client.upsert(collection.key, points, wait=True, ordering=STRONG)


def _judged(item: Item, old: StoredItem | None, feature_digest: bytes, now: datetime) -> tuple[Upserted, datetime]:
    """Decide what happens to an item. Return that, and since when the item is there.

    `feature_digest` is that of the stored features; empty where there are none.
    """
    if old is None or old.create_time is None or old.update_time is None:
        return Upserted(item.id, ItemOutcome.CREATED, now), now
    changes = tuple(_changes(item, old, feature_digest))
    if not changes and (item.low_content, item.perceptual_hash) == (old.low_content, old.perceptual_hash):
        return Upserted(item.id, ItemOutcome.UNCHANGED, old.update_time), old.create_time
    # Later than before, whatever the clock of the one that wrote it.
    return Upserted(item.id, ItemOutcome.UPDATED, max(now, old.update_time + _TICK), changes), old.create_time


def _changes(item: Item, old: StoredItem, feature_digest: bytes) -> Iterator[Change]:
    if item.content_digest != old.content_digest:
        yield Change.CONTENT
    if set(item.vectors) != set(old.vectors) or not all(
        _close(vector, old.vectors[name]) for name, vector in item.vectors.items()
    ):
        yield Change.VECTORS
    if item.caption != old.caption:
        yield Change.CAPTION
    if item.metadata != old.metadata and not same_json(json.loads(item.metadata), json.loads(old.metadata)):
        yield Change.METADATA
    if item.image_uri != old.image_uri:
        yield Change.IMAGE_URI
    new = item.local_features
    if (new.kind if new else None, new.digest if new else b"") != (old.feature_kind, feature_digest):
        yield Change.LOCAL_FEATURES


def _close(new: object, old: object) -> bool:
    """Tell whether two vectors differ by rounding alone."""
    one, other = np.asarray(new, dtype=np.float64), np.asarray(old, dtype=np.float64)
    return bool(np.linalg.norm(one - other) <= ROUNDING * np.linalg.norm(one))


async def delete_ids(client: AsyncQdrantClient, collection: Collection, ids: Sequence[str]) -> int:
    """Remove items by id. Return how many there were."""
    count = 0
    for piece in _pieces(sorted({point_id(item_id) for item_id in ids})):
        there = await client.retrieve(collection.key, piece, with_payload=False)
        if there:
            count += len(there)
            selector = models.PointIdsList(points=[record.id for record in there])
            await client.delete(collection.key, points_selector=selector, wait=True, ordering=STRONG)
    return count


def _pieces(ids: list[str]) -> Iterator[list[models.ExtendedPointId]]:
    for begin in range(0, len(ids), PIECE):
        yield list(ids[begin : begin + PIECE])


async def delete_batch(
    client: AsyncQdrantClient,
    prefix: str,
    collection: Collection,
    chosen: models.Filter,
    *,
    after: str,
    count: int,
    within: LeasedWrite,
) -> DeletedBatch:
    """Remove up to `count` of the items that a filter chooses, behind a position, as a step of a job."""
    await job_points.hold(client, prefix, within.lease)
    records, more = await client.scroll(
        collection.key,
        scroll_filter=chosen,
        limit=count,
        # Qdrant begins at an offset, and we behind it.
        offset=str(uuid.UUID(int=uuid.UUID(after).int + 1)) if after else None,
        with_payload=False,
    )
    if records:
        # The filter once more: an item may have changed since it was read.
        those = models.HasIdCondition(has_id=[record.id for record in records])
        selector = models.FilterSelector(filter=models.Filter(must=[those, chosen]))
        await client.delete(collection.key, points_selector=selector, wait=True, ordering=STRONG)
    batch = DeletedBatch(len(records), None if more is None else str(records[-1].id))
    await job_points.save(client, prefix, within.lease, within.progress(batch))
    return batch


async def delete_matching(client: AsyncQdrantClient, collection: Collection, chosen: models.Filter) -> int:
    """Remove the items that a filter chooses. Return how many there were."""
    count = (await client.count(collection.key, count_filter=chosen, exact=True)).count
    if count:
        selector = models.FilterSelector(filter=chosen)
        await client.delete(collection.key, points_selector=selector, wait=True, ordering=STRONG)
    return count
