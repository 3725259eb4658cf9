"""Facets in Qdrant: items are counted by the values of a metadata field."""

from collections.abc import Iterator

from qdrant_client import AsyncQdrantClient, models

from search_svc.model import Collection, Facet, FacetCount, FieldIndex, FieldType
from search_svc.qdrant.fields import Slot, slot_key
from search_svc.qdrant.predicates import any_of, but_not

# Values as frequent as the last one wanted: beyond so many, which of them are told is Qdrant's choice.
_MAX_TIES = 4096
SLOTS = {
    FieldType.KEYWORD: Slot.TEXTS,
    FieldType.TEXT: Slot.TEXTS,
    FieldType.NUMBER: Slot.NUMBERS,
    FieldType.BOOL: Slot.BOOLS,
    FieldType.TIME: Slot.TIME_TEXTS,
}


async def count(
    client: AsyncQdrantClient, collection: Collection, field: FieldIndex, *, chosen: models.Filter | None, limit: int
) -> Facet:
    """Count the most frequent values of the index's type.

    An item counts once for each value that it or its list has.
    """
    key = slot_key(field.path, SLOTS[field.type])
    tokens = await _most_frequent(client, collection, key, chosen, limit)
    values = [(_value(token, field.type), token, items) for token, items in tokens]
    # Qdrant's order of equal counts is its own; bytes of UTF-8, numbers as numbers.
    values.sort(key=lambda each: (-each[2], each[0] if isinstance(each[0], float) else str(each[1]).encode()))
    listed = values[:limit]
    without = [any_of(key, [token for _, token, _ in listed])] if listed else []
    others = await client.count(collection.key, count_filter=but_not(chosen, *without), exact=True)
    return Facet(field.path, tuple(FacetCount(value, items) for value, _, items in listed), others.count)


async def _most_frequent(
    client: AsyncQdrantClient, collection: Collection, key: str, chosen: models.Filter | None, limit: int
) -> list[tuple[str, int]]:
    """Return at least the first `limit` of all values, and others as frequent as the last: all, up to `_MAX_TIES`."""
    asked = limit + 1
    while True:
        answer = await client.facet(collection.key, key, facet_filter=chosen, limit=asked, exact=True)
        hits = sorted(((str(hit.value), hit.count) for hit in there(answer)), key=lambda hit: -hit[1])
        if len(hits) < asked or hits[-1][1] < hits[limit - 1][1] or asked > limit + _MAX_TIES:
            return hits
        asked *= 4


def there(answer: models.FacetResponse) -> Iterator[models.FacetValueHit]:
    """Yield the values that some item has: one that deleted items had may be told with a count of zero."""
    return (hit for hit in answer.hits if hit.count)


def _value(token: str, field_type: FieldType) -> str | float | bool:
    text = token.removeprefix("=")
    match field_type:
        case FieldType.NUMBER:
            return float(text)
        case FieldType.BOOL:
            return text == "true"
        case _:
            return text
