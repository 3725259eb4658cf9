"""Aggregate: what a page about one artist needs comes from one call, and what cannot be answered says what helps."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from search_svc.aggregates import MAX_BUCKETS, Aggregation, CountsByTime, DistinctCount
from search_svc.filters import Equals
from search_svc.model import FieldIndex, FieldType, Item
from search_svc.qdrant.tallies import DistinctRoom, DistinctTally
from search_svc.store import Store
from search_svc.time_buckets import UTC_ZONE, TimeInterval
from tests.search.conftest import Serve
from tests.search.support import Stub, collection, create, definition, item, refused, upsert, where

INVALID, PRECONDITION = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
INDEXES = {
    "entry": search_pb2.FIELD_TYPE_KEYWORD,
    "view": search_pb2.FIELD_TYPE_KEYWORD,
    "artist": search_pb2.FIELD_TYPE_KEYWORD,
    "price": search_pb2.FIELD_TYPE_NUMBER,
    "camera.taken": search_pb2.FIELD_TYPE_TIME,
    "near_duplicate_of": search_pb2.FIELD_TYPE_KEYWORD,
}
DAY, YEAR = search_pb2.TIME_INTERVAL_DAY, search_pb2.TIME_INTERVAL_YEAR


def by_time(name: str = "time", field: str = "$create_time", interval: Any = DAY, zone: str = "") -> Any:
    asked = search_pb2.CountsByTime(field=field, interval=interval, time_zone=zone)
    return search_pb2.Aggregation(name=name, counts_by_time=asked)


def distinct(name: str, field: str) -> Any:
    return search_pb2.Aggregation(name=name, distinct_count=search_pb2.DistinctCount(field=field))


def stats(name: str, field: str) -> Any:
    return search_pb2.Aggregation(name=name, number_stats=search_pb2.NumberStats(field=field))


def values(name: str, field: str, limit: int = 0) -> Any:
    return search_pb2.Aggregation(name=name, value_counts=search_pb2.ValueCounts(field=field, limit=limit))


async def ask(stub: Stub, *asked: Any, **fields: Any) -> search_pb2.AggregateResponse:
    request = search_pb2.AggregateRequest(**{"collection": "pictures", "aggregations": asked, **fields})
    return await stub.Aggregate(request)


async def test_a_page_about_one_artist_comes_from_one_call(stub: Stub) -> None:
    await create(stub, collection(indexes=INDEXES))

    def work(item_id: str, entry: str, view: str, **more: Any) -> search_pb2.Item:
        metadata = {"artist": more.pop("artist", "Ada"), "entry": entry, "view": view, **more}
        return item(item_id, metadata=metadata, content_digest=bytes([len(entry)]) * 32)

    await upsert(
        stub,
        work("a", "bowl", "front", price=10, camera={"taken": "2026-01-31T23:30:00Z"}),
        work("b", "bowl", "back", price=20.5, camera={"taken": "2026-02-01T00:30:00+02:00"}),
        work("c", "vase", "front", near_duplicate_of="a", camera={"taken": "2026-02-02"}),
        work("d", "plate", "front", artist="Bob", price=99),
    )
    before = datetime.now(UTC)
    found = await ask(
        stub,
        distinct("entries", "entry"),
        distinct("images", "$content_digest"),
        values("views", "view"),
        by_time("ingested", "$create_time", YEAR),
        by_time("taken", "camera.taken", DAY, "Europe/Berlin"),
        stats("prices", "price"),
        distinct("near duplicates", "near_duplicate_of"),
        filter=where("artist", equals="Ada"),
    )
    assert found.item_count == 3
    results = {each.name: each for each in found.results}
    assert list(results) == ["entries", "images", "views", "ingested", "taken", "prices", "near duplicates"]
    assert [results[name].distinct_count for name in ("entries", "images", "near duplicates")] == [2, 1, 1]
    assert [each.item_count for each in found.results] == [3, 3, 3, 3, 2, 2, 1]
    counts = {each.value.string_value: each.count for each in results["views"].value_counts.counts}
    assert counts == {"front": 2, "back": 1}
    [year] = results["ingested"].counts_by_time.buckets
    assert (year.start.ToDatetime(UTC), year.count) == (datetime(before.year, 1, 1, tzinfo=UTC), 3)
    # Half past midnight of the next day in Berlin, and late on the day before.
    days = results["taken"].counts_by_time.buckets
    assert [(day.start.ToJsonString(), day.utc_offset_s, day.count) for day in days] == [
        ("2026-01-30T23:00:00Z", 3600, 1),
        ("2026-01-31T23:00:00Z", 3600, 1),
    ]
    prices = results["prices"].number_stats
    assert (prices.value_count, prices.min, prices.max, prices.mean, prices.sum) == (2, 10, 20.5, 15.25, 30.5)


async def test_nothing_chosen_is_an_answer(stub: Stub) -> None:
    await create(stub, collection(indexes=INDEXES))
    asked = [by_time(), distinct("d", "entry"), stats("s", "price"), values("v", "view")]
    found = await ask(stub, *asked, filter=where("artist", equals="nobody"))
    assert found.item_count == 0
    assert [each.WhichOneof("outcome") for each in found.results] == [
        "counts_by_time",
        "distinct_count",
        "number_stats",
        "value_counts",
    ]
    assert {each.item_count for each in found.results} == {0}
    assert found.results[2].number_stats == search_pb2.NumberSummary()


async def test_facets_are_the_same_as_counts_of_values(stub: Stub) -> None:
    await create(stub, collection(indexes=INDEXES))
    await upsert(stub, *(item(f"{i}", metadata={"price": [i % 3, i % 2], "view": f"{i % 4}"}) for i in range(12)))
    found = await ask(stub, values("p", "price", 2), values("v", "view", 3))
    request = search_pb2.CountFacetsRequest(collection="pictures", fields=["price"], limit=2)
    assert found.results[0].value_counts == (await stub.CountFacets(request)).facets[0]
    request = search_pb2.CountFacetsRequest(collection="pictures", fields=["view"], limit=3)
    assert found.results[1].value_counts == (await stub.CountFacets(request)).facets[0]


BAD: list[tuple[list[Any], grpc.StatusCode, Reason, str]] = [
    ([], INVALID, Reason.QUERY_INVALID, "aggregations"),
    ([values(f"{i}", "view") for i in range(17)], INVALID, Reason.QUERY_INVALID, "aggregations"),
    ([values("", "view")], INVALID, Reason.QUERY_INVALID, "aggregations[0].name"),
    ([values("n" * 64, "view")], INVALID, Reason.QUERY_INVALID, "aggregations[0].name"),
    ([values("a", "view"), stats("a", "price")], INVALID, Reason.QUERY_INVALID, "aggregations[1].name"),
    ([search_pb2.Aggregation(name="a")], INVALID, Reason.QUERY_INVALID, "aggregations[0]"),
    ([values("a", "a..b")], INVALID, Reason.QUERY_INVALID, "aggregations[0].value_counts.field"),
    ([values("a", "$id")], INVALID, Reason.QUERY_INVALID, "aggregations[0].value_counts.field"),
    ([stats("a", "$create_time")], INVALID, Reason.QUERY_INVALID, "aggregations[0].number_stats.field"),
    ([distinct("a", "size")], PRECONDITION, Reason.FIELD_NOT_INDEXED, "aggregations[0].distinct_count.field"),
    ([stats("a", "view")], PRECONDITION, Reason.FIELD_NOT_INDEXED, "aggregations[0].number_stats.field"),
    ([by_time("a", "price")], PRECONDITION, Reason.FIELD_NOT_INDEXED, "aggregations[0].counts_by_time.field"),
    ([by_time(interval=0)], INVALID, Reason.OPTION_INVALID, "aggregations[0].counts_by_time.interval"),
    ([by_time(interval=7)], INVALID, Reason.OPTION_INVALID, "aggregations[0].counts_by_time.interval"),
    ([by_time(zone="Mars")], INVALID, Reason.OPTION_INVALID, "aggregations[0].counts_by_time.time_zone"),
    ([values("a", "view", 1_001)], INVALID, Reason.LIMIT_OUT_OF_RANGE, "aggregations[0].value_counts.limit"),
]


async def test_bad_requests(stub: Stub) -> None:
    await create(stub, collection(indexes=INDEXES))
    for asked, code, reason, field in BAD:
        await refused(ask(stub, *asked), code, reason, field)


async def test_bad_filters_and_collections(stub: Stub) -> None:
    await refused(ask(stub, by_time()), grpc.StatusCode.NOT_FOUND, Reason.COLLECTION_NOT_FOUND)
    await create(stub, collection(indexes=INDEXES))
    await refused(ask(stub, by_time(), filter=search_pb2.Filter()), INVALID, Reason.FILTER_INVALID, "filter")


async def test_an_answer_too_large_is_refused(stub: Stub, serve: Serve) -> None:
    await create(stub, collection(indexes=INDEXES))
    await upsert(stub, *(item(f"{i}", metadata={"view": f"{i:03}" + "y" * 1_000}) for i in range(150)))
    async with serve(max_message_bytes=65_536) as (small, _):
        error = await refused(ask(small, by_time(), values("v", "view", 150)), INVALID, Reason.RESPONSE_TOO_LARGE)
        fits = int(error.metadata["fits"])
        assert fits > 10
        assert len((await ask(small, values("v", "view", fits))).results[0].value_counts.counts) == fits


async def test_ten_thousand_buckets_are_the_most(store: Store) -> None:
    made = await store.create_collection(definition(indexes={"t": FieldType.TIME}), timeout_s=60)
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    times = [(begin + timedelta(hours=hour)).isoformat() for hour in range(MAX_BUCKETS + 1)]
    lists = {"most": times[1:], "one": times[:1], "none": []}
    items = [Item(name, metadata=json.dumps({"t": of_item})) for name, of_item in lists.items()]
    await store.upsert(made.collection, items, timeout_s=60)

    async def count(asked: Aggregation, *ids: str) -> Any:
        chosen = Equals(("$id",), ids)
        found = await store.aggregate(made.collection, [asked], filter=chosen, max_bytes=1 << 20, timeout_s=60)
        assert found.results[0] is not None
        return found.results[0].item_count, found.results[0].outcome

    hours = CountsByTime("c", ("t",), TimeInterval.HOUR, UTC_ZONE)
    with_time, buckets = await count(hours, "most", "none")
    assert (with_time, len(buckets)) == (1, MAX_BUCKETS)
    with pytest.raises(InvalidInput) as caught:
        await count(hours, *lists)
    assert caught.value.reason is Reason.AGGREGATION_TOO_LARGE
    assert [violation.field for violation in caught.value.violations] == ["aggregations[0].counts_by_time.interval"]
    assert "day, week, month" in caught.value.message.lower()
    # More values than Qdrant is asked for by name.
    assert await count(DistinctCount("d", FieldIndex(("t",), FieldType.TIME)), *lists) == (2, len(times))


# Qdrant makes no such promise: docs/stores.md.
@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
async def test_all_figures_are_of_one_moment(stub: Stub) -> None:
    await create(stub, collection(indexes=INDEXES))
    written = asyncio.Event()

    async def write() -> None:
        for i in range(60):
            await upsert(stub, item(f"{i}", metadata={"price": 1, "view": "front"}))
        written.set()

    writing = asyncio.create_task(write())
    looks = 0
    while not written.is_set() or not looks:
        asked = [by_time("t", interval=YEAR), stats("s", "price"), values("v", "view"), distinct("d", "view")] * 2
        for i, each in enumerate(asked := [type(each).FromString(each.SerializeToString()) for each in asked]):
            each.name = f"{i}"
        found = await ask(stub, *asked)
        assert {each.item_count for each in found.results} == {found.item_count}
        looks += 1
    await writing


def test_different_values_are_bounded_over_all_of_a_call() -> None:
    room = DistinctRoom()
    room.left = 5
    one, other = DistinctTally("one", 0, room), DistinctTally("other", 1, room)
    for value in ("a", "b", "a"):
        one.add([value])
    other.add(["x", "y", "a"])
    assert (one.outcome(), other.outcome(), one.item_count) == (2, 3, 3)
    other.add(["z", "z"])
    with pytest.raises(InvalidInput) as caught:
        other.outcome()
    assert caught.value.reason is Reason.AGGREGATION_TOO_LARGE
    assert caught.value.metadata["aggregation"] == "other"
