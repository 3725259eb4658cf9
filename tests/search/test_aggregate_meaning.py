"""Stores and a plain reference agree on every aggregation, of whatever metadata and filter."""

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_svc.aggregates import (
    CONTENT_DIGEST,
    Aggregate,
    Aggregation,
    CountsByTime,
    DistinctCount,
    NumberStats,
    NumberSummary,
    TimeBucket,
    ValueCounts,
)
from search_svc.filters import All, Filter
from search_svc.model import Collection, Facet, FieldIndex, FieldType, Item
from search_svc.store import Store
from search_svc.time_buckets import TimeInterval, bucket_of, bucket_start, epoch_s, parse_zone
from search_svc.times import parse_time
from tests.search import reference
from tests.search.evaluate import metadata_of, passes
from tests.search.filter_cases import items_of
from tests.search.strategies import INDEXES, filters, metadata, thorough
from tests.search.support import definition

FIELDS = [FieldIndex(tuple(path.split(".")), field_type) for path, field_type in INDEXES.items()]
ASKED: list[Aggregation] = [
    *(DistinctCount(f"distinct {field.name}", field) for field in FIELDS),
    *(ValueCounts(f"values {field.name}", field, 2) for field in FIELDS),
    *(NumberStats(f"numbers {field.name}", field.path) for field in FIELDS if field.type is FieldType.NUMBER),
    DistinctCount("images", CONTENT_DIGEST),
    CountsByTime("hours", ("t",), TimeInterval.HOUR, parse_zone("")),
    CountsByTime("weeks", ("t",), TimeInterval.WEEK, parse_zone("")),
]


def expected(asked: Aggregation, items: list[Item]) -> Aggregate:
    """What an aggregation comes to, by the reference."""
    if isinstance(asked, DistinctCount) and asked.field == CONTENT_DIGEST:
        digests = [item.content_digest for item in items if item.content_digest]
        return Aggregate(len(digests), len(set(digests)))
    kinds = {CountsByTime: FieldType.TIME, NumberStats: FieldType.NUMBER}
    path, field_type = (
        (asked.path, kinds[type(asked)])
        if isinstance(asked, CountsByTime | NumberStats)
        else (asked.field.path, asked.field.type)
    )
    values = [reference.elements(reference.field_of(metadata_of(item), path), field_type) for item in items]
    having = sum(map(bool, values))
    match asked:
        case DistinctCount():
            return Aggregate(having, len(set().union(*values)))
        case NumberStats():
            return Aggregate(having, NumberSummary(*reference.numbers(values)))
        case CountsByTime():
            moments = [{moment for moment in map(parse_time, texts) if moment is not None} for texts in values]
            counts = reference.counts_by_time(moments, asked.interval.value, UTC)
            return Aggregate(having, tuple(TimeBucket(start, 0, count) for start, count in counts))
        case ValueCounts():
            return Aggregate(having, reference.facet(path, values, asked.limit))


@settings(thorough, max_examples=25)
@given(all_metadata=st.lists(metadata, min_size=1, max_size=10), trees=st.lists(filters, min_size=1, max_size=2))
async def test_every_aggregation_means_the_same_everywhere(
    each_store: Store, all_metadata: list[dict[str, Any]], trees: list[Filter]
) -> None:
    collection = (await each_store.create_collection(definition(indexes=INDEXES), timeout_s=60)).collection
    await each_store.delete_matching(collection, All(()), timeout_s=60)
    items = items_of(all_metadata)
    await each_store.upsert(collection, items, timeout_s=60)
    for tree in (None, *trees):
        chosen = [item for item in items if tree is None or passes(tree, item, metadata_of(item))]
        found = await each_store.aggregate(collection, ASKED, filter=tree, max_bytes=1 << 20, timeout_s=60)
        assert found.item_count == len(chosen)
        for asked, result in zip(ASKED, found.results, strict=True):
            assert result == expected(asked, chosen), (asked, tree)


async def filled(store: Store, values: list[Any], field: str, field_type: FieldType) -> Collection:
    """A collection with an item for each value of one field."""
    made = await store.create_collection(definition(indexes={field: field_type}), timeout_s=60)
    items = [Item(f"{i}", metadata=json.dumps({field: value})) for i, value in enumerate(values)]
    await store.upsert(made.collection, items, timeout_s=60)
    return made.collection


async def test_intervals_of_every_clock_are_the_same_everywhere(each_store: Store) -> None:
    random = np.random.default_rng(5)
    moments = [
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
        # The hour that comes twice, in Berlin and in Havana.
        *(datetime(2025, 10, 26, hour, 30, tzinfo=UTC) for hour in (0, 1, 2)),
        *(datetime(2025, 11, 2, hour, 59, 59, 999_999, tzinfo=UTC) for hour in (3, 4, 5)),
        *(datetime.fromtimestamp(s, UTC) for s in random.integers(-6 * 10**9, 4 * 10**9, 60).tolist()),
    ]
    texts = [moment.isoformat() for moment in moments]
    collection = await filled(each_store, [*texts, texts[:9], texts], "t", FieldType.TIME)
    per_item = [[moment] for moment in moments] + [moments[:9], moments]
    for name in ("", "-03:30", "+15:59", "Europe/Berlin", "America/Havana", "Pacific/Apia"):
        zone = parse_zone(name)
        asked = [CountsByTime(interval, ("t",), interval, zone) for interval in TimeInterval]
        found = await each_store.aggregate(collection, asked, filter=None, max_bytes=1 << 20, timeout_s=60)
        for interval, result in zip(TimeInterval, found.results, strict=True):
            counts: dict[Any, int] = {}
            for of_item in per_item:
                for bucket in {bucket_of(epoch_s(moment), interval, zone) for moment in of_item}:
                    counts[bucket] = counts.get(bucket, 0) + 1
            wanted = [TimeBucket(*bucket_start(each, interval, zone), count) for each, count in counts.items()]
            wanted.sort(key=lambda bucket: bucket.start)
            assert result == Aggregate(len(per_item), tuple(wanted)), (name, interval)


async def test_odd_numbers_add_up_exactly(each_store: Store) -> None:
    collection = await filled(
        each_store,
        [0.1, [0.2, 0.2, -0.3], "5", True, None, [[7]], -0.0, 1e300, [-1e300, 5e-324]],
        "n",
        FieldType.NUMBER,
    )
    huge = await filled_again(each_store, [1.7976931348623157e308, [1e308, 1.5e308]])
    asked = [NumberStats("n", ("n",))]
    found = await each_store.aggregate(collection, asked, filter=None, max_bytes=1 << 20, timeout_s=60)
    # 0.1 + 0.2 - 0.3 is nothing in decimal numbers, and what is left is the least of all doubles.
    assert found.results == (Aggregate(5, NumberSummary(7, -1e300, 1e300, 0.0, 5e-324)),)
    found = await each_store.aggregate(huge, asked, filter=None, max_bytes=1 << 20, timeout_s=60)
    mean = (1.7976931348623157 + 1 + 1.5) / 3 * 1e308
    [result] = found.results
    assert result is not None
    assert isinstance(result.outcome, NumberSummary)
    assert result.outcome.sum == float("inf")
    assert result.outcome.mean == pytest.approx(mean)


async def filled_again(store: Store, values: list[Any]) -> Collection:
    """Another collection beside the first."""
    made = await store.create_collection(definition("other", indexes={"n": FieldType.NUMBER}), timeout_s=60)
    items = [Item(f"{i}", metadata=json.dumps({"n": value})) for i, value in enumerate(values)]
    await store.upsert(made.collection, items, timeout_s=60)
    return made.collection


def test_the_reference_knows_facets() -> None:
    assert reference.facet(("k",), [{"b", "a"}, {"b"}, set(), {"c"}], 1) == Facet(
        ("k",), (reference.counted("b", 2),), 2
    )
