"""Aggregations in Qdrant. It counts values by itself; for all else the items' own values are read, page by page.

What is read of an item are the slots that are asked for, all in one walk, however many aggregations there are.
"""

from collections.abc import Sequence
from typing import Any

from qdrant_client import AsyncQdrantClient, models

from search_svc.aggregates import (
    CONTENT_DIGEST,
    Aggregate,
    AggregatedItems,
    Aggregation,
    CountsByTime,
    DistinctCount,
    NumberStats,
    ValueCounts,
)
from search_svc.filters import TIME_FIELDS
from search_svc.model import Collection, FieldIndex
from search_svc.qdrant import facets
from search_svc.qdrant.fields import Slot, slot_key, slot_values
from search_svc.qdrant.predicates import and_any
from search_svc.qdrant.tallies import DistinctRoom, DistinctTally, NumberTally, Tally, TimeTally

# Points of a page: some hundred KB, and a few ms to go through.
_PAGE = 1_000
# Up to so many different values are asked for by name; more are found in the walk.
_LISTED = 5_000
_DIGEST = "digest"


async def aggregate(
    client: AsyncQdrantClient,
    collection: Collection,
    asked: Sequence[Aggregation],
    *,
    chosen: models.Filter | None,
    max_bytes: int,
) -> AggregatedItems:
    """Count and measure the items that a filter chooses. Stop when the values counted exceed about `max_bytes`.

    Raises:
        InvalidInput: AGGREGATION_TOO_LARGE.
    """
    total = (await client.count(collection.key, count_filter=chosen, exact=True)).count
    results: dict[int, Aggregate] = {}
    tallies: dict[int, tuple[str, Tally]] = {}
    room = DistinctRoom()
    size = 0
    for place, each in enumerate(asked):
        match each:
            case CountsByTime(path=path):
                key = path[0].removeprefix("$") if path[0] in TIME_FIELDS else slot_key(path, Slot.TIMES)
                tallies[place] = key, TimeTally(each, place)
            case NumberStats(path=path):
                tallies[place] = slot_key(path, Slot.NUMBERS), NumberTally()
            case DistinctCount(name=name, field=field):
                counted = await _listed(client, collection, field, chosen)
                if counted is None:
                    tallies[place] = _values_key(field), DistinctTally(name, place, room)
                else:
                    results[place] = counted
            case ValueCounts(field=field):
                facet = await facets.count(client, collection, field, chosen=chosen, limit=each.limit)
                results[place] = Aggregate(await _having(client, collection, _values_key(field), chosen), facet)
                size += sum(len(str(value.value)) for value in facet.counts)
        if size > max_bytes:
            return AggregatedItems(total, tuple(results.get(place) for place in range(len(asked))))
    if tallies:
        await _walk(client, collection, chosen, list(tallies.values()))
    results |= {place: Aggregate(tally.item_count, tally.outcome()) for place, (_, tally) in tallies.items()}
    return AggregatedItems(total, tuple(results[place] for place in range(len(asked))))


def _values_key(field: FieldIndex) -> str:
    return _DIGEST if field == CONTENT_DIGEST else slot_key(field.path, facets.SLOTS[field.type])


async def _listed(
    client: AsyncQdrantClient, collection: Collection, field: FieldIndex, chosen: models.Filter | None
) -> Aggregate | None:
    """Count different values by their list; None where it would be long."""
    key = _values_key(field)
    answer = await client.facet(collection.key, key, facet_filter=chosen, limit=_LISTED, exact=True)
    if len(answer.hits) == _LISTED:
        return None
    return Aggregate(await _having(client, collection, key, chosen), sum(1 for _ in facets.there(answer)))


async def _having(client: AsyncQdrantClient, collection: Collection, key: str, chosen: models.Filter | None) -> int:
    """Count the items that have anything under a key."""
    return (await client.count(collection.key, count_filter=and_any(chosen, key), exact=True)).count


async def _walk(
    client: AsyncQdrantClient,
    collection: Collection,
    chosen: models.Filter | None,
    tallies: Sequence[tuple[str, Tally]],
) -> None:
    """Show every item's values to the tallies."""
    keys = sorted({key for key, _ in tallies})
    offset: Any = None
    while True:
        records, offset = await client.scroll(
            collection.key, scroll_filter=chosen, limit=_PAGE, offset=offset, with_payload=keys
        )
        for record in records:
            for key, tally in tallies:
                if values := slot_values(record.payload or {}, key):
                    tally.add(values)
        if offset is None:
            return
