"""Reading of items: points are chosen first, and this reads the items under them, in pieces, up to a size."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from qdrant_client import AsyncQdrantClient, models

from search_svc.duplicates.items import HashedItem, HashPage
from search_svc.model import Collection, FetchedItems, NamedSpace, Numbers, StoredItem, View
from search_svc.qdrant.layout import CONTENT, FEATURES, point_id
from search_svc.qdrant.points import from_record, hash_of, size_of, vector_of

# Small enough that a piece of the fattest items stays in memory easily, large enough that a page is a few round trips.
PIECE = 200
_FEATURES_PIECE = 100


async def sample_vectors(
    client: AsyncQdrantClient, collection: Collection, named: NamedSpace, count: int
) -> list[tuple[str, Numbers]]:
    """Return up to `count` vectors of a space, drawn by chance, with the ids of their items.

    Points lie in the order of their ids, which are digests: those behind an id drawn by chance are drawn by chance too.
    """
    found: dict[str, Numbers] = {}
    begin = uuid.uuid4()
    for first, last in ((str(begin), None), (None, begin)):
        offset: Any = first
        while len(found) < count:
            records, offset = await client.scroll(collection.key, limit=PIECE, offset=offset, with_payload=False)
            ids = [record.id for record in records if last is None or uuid.UUID(str(record.id)) < last]
            points = await client.retrieve(collection.key, ids, with_payload=["id", "raw"], with_vectors=[named.name])
            for point in points:
                numbers = vector_of(point, named)
                if numbers is not None and point.payload:
                    found[point.payload["id"]] = numbers
            if offset is None or len(ids) < len(records):
                break
    return list(found.items())[:count]


async def read_hashes(
    client: AsyncQdrantClient, collection: Collection, chosen: models.Filter, *, begin: str | None, count: int
) -> HashPage:
    """Return what tells which items look the same, of up to `count` items that a filter chooses, from an offset on."""
    records, more = await client.scroll(
        collection.key,
        scroll_filter=chosen,
        limit=count,
        offset=begin,
        with_payload=["id", "create_time", "digest", "hash"],
    )
    items = tuple(
        HashedItem(
            payload["id"],
            datetime.fromisoformat(payload["create_time"]),
            bytes.fromhex(payload.get("digest", "")),
            hash_of(payload),
        )
        for record in records
        if (payload := record.payload)
    )
    return HashPage(items, None if more is None else str(records[-1].id))


async def read_ids(
    client: AsyncQdrantClient, collection: Collection, ids: Sequence[str], *, view: View, max_bytes: int
) -> FetchedItems:
    """Return the items that exist of these ids, in their order; not much more than `max_bytes` of content."""
    found: list[StoredItem] = []
    size = 0
    most = _FEATURES_PIECE if View.FEATURES in view else PIECE
    for begin in range(0, len(ids), most):
        piece = ids[begin : begin + most]
        records = await read_points(client, collection, piece, view)
        for item_id in piece:
            record = records.get(item_id)
            if record is None:
                continue
            if not view:
                found.append(StoredItem(item_id))
                continue
            size += size_of(record)
            if size > max_bytes and found:
                return FetchedItems(tuple(found), cut=True)
            found.append(from_record(record, collection.definition, view))
    return FetchedItems(tuple(found), cut=False)


async def read_points(
    client: AsyncQdrantClient, collection: Collection, ids: Sequence[str], view: View, *more: str
) -> dict[str, models.Record]:
    """Return the points of items, by the items' ids, with `more` keys of their payload than the view has."""
    keys = [*CONTENT, *((FEATURES,) if View.FEATURES in view else ()), *more]
    records = await client.retrieve(
        collection.key,
        list({point_id(item_id) for item_id in ids}),
        with_payload=keys if view else ["id"],
        with_vectors=View.NUMBERS in view,
    )
    return {record.payload["id"]: record for record in records if record.payload}
