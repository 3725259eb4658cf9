"""Items: written whole or not at all, and read back as they were."""

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.reasons import Reason
from tests.search.conftest import Serve
from tests.search.support import (
    OTHER_SPACE_ID,
    SPACE_ID,
    Stub,
    collection,
    create,
    embedding,
    item,
    listed,
    named_space,
    refused,
    upsert,
)

INVALID = grpc.StatusCode.INVALID_ARGUMENT
CREATED = search_pb2.UPSERT_OUTCOME_CREATED
UPDATED = search_pb2.UPSERT_OUTCOME_UPDATED
UNCHANGED = search_pb2.UPSERT_OUTCOME_UNCHANGED
FULL = search_pb2.ReadOptions(view=search_pb2.ITEM_VIEW_FULL)
HALF = common_pb2.DATA_TYPE_FLOAT16
SINGLE = common_pb2.DATA_TYPE_FLOAT32


async def get(stub: Stub, *ids: str, read: search_pb2.ReadOptions | None = None) -> Any:
    return await stub.GetItems(search_pb2.GetItemsRequest(collection="pictures", ids=ids, read=read))


def whole(item_id: str = "a") -> search_pb2.Item:
    return item(
        item_id,
        [0, 3, 0, 4],
        {
            "artist": "Ada",
            "iso": 100,
            "share": 0.1,
            "big": 1e300,
            "tags": ["x", 1, None, {"y": []}],
            "none": None,
            "in": {},
        },
        caption=common_pb2.Caption(text="a red square", confidence=0.5, token_count=4, truncated=True, model="m@1"),
        image_uri="file:///a.png",
        content_digest=bytes(range(32)),
    )


async def test_everything_comes_back(stub: Stub) -> None:
    await create(stub)
    assert await upsert(stub, whole()) == [CREATED]
    got = (await get(stub, "a", read=FULL)).items[0]
    assert got.create_time == got.update_time
    assert got.create_time.seconds > 1_700_000_000
    vector = got.vectors["image"]
    assert (vector.space_id, vector.data_type, vector.dimension) == (SPACE_ID, HALF, 4)
    np.testing.assert_allclose(np.frombuffer(vector.data, "<f2"), [0, 0.6, 0, 0.8], atol=1e-3)
    sent = whole()
    for field in ("metadata", "caption", "image_uri", "content_digest", "id"):
        assert getattr(got, field) == getattr(sent, field)


async def test_views(stub: Stub) -> None:
    await create(stub)
    await upsert(stub, whole())
    for view in (search_pb2.ITEM_VIEW_UNSPECIFIED, search_pb2.ITEM_VIEW_BASIC):
        basic = (await get(stub, "a", read=search_pb2.ReadOptions(view=view))).items[0]
        assert (basic.vectors["image"].space_id, basic.vectors["image"].dimension) == (SPACE_ID, 4)
        assert not basic.vectors["image"].data
        assert not basic.vectors["image"].floats
        assert basic.metadata["artist"] == "Ada"
    only_id = (await get(stub, "a", read=search_pb2.ReadOptions(view=search_pb2.ITEM_VIEW_ID))).items[0]
    assert only_id == search_pb2.Item(id="a")
    for bad in ({"view": 9}, {"data_type": 9}):
        read = search_pb2.ReadOptions(**bad)  # type: ignore[arg-type]  # numbers of no meaning
        await refused(get(stub, "a", read=read), INVALID, Reason.OPTION_INVALID)


async def test_vectors_as_asked_for(stub: Stub) -> None:
    await create(stub, collection("pictures", named_space(stored_as=SINGLE)))
    await upsert(stub, item("a", [1, 2, 3, 4]))
    unit = np.array([1, 2, 3, 4]) / np.sqrt(30)
    for data_type, wire, tolerance in ((0, "<f4", 1e-7), (SINGLE, "<f4", 1e-7), (HALF, "<f2", 1e-3)):
        read = search_pb2.ReadOptions(view=search_pb2.ITEM_VIEW_FULL, data_type=data_type)  # type: ignore[arg-type]
        vector = (await get(stub, "a", read=read)).items[0].vectors["image"]
        np.testing.assert_allclose(np.frombuffer(vector.data, wire), unit, atol=tolerance)
    read = search_pb2.ReadOptions(view=search_pb2.ITEM_VIEW_FULL, readable=True)
    vector = (await get(stub, "a", read=read)).items[0].vectors["image"]
    np.testing.assert_allclose(vector.floats, unit, atol=1e-7)
    assert (vector.data, vector.data_type, vector.dimension) == (b"", SINGLE, 4)


async def test_every_way_to_send_a_vector(stub: Stub) -> None:
    await create(stub)
    half = np.array([0, 1, 0, 1], "<f2")
    ways = [
        common_pb2.Embedding(space_id=SPACE_ID, floats=[0, 1, 0, 1]),
        common_pb2.Embedding(space_id=SPACE_ID, floats=[0, 1, 0, 1], dimension=4, data_type=SINGLE),
        common_pb2.Embedding(space_id=SPACE_ID, data=half.tobytes(), dimension=4, data_type=HALF),
        embedding([0, 1e-30, 0, 1e-30]),
        embedding([0, 3e38, 0, 3e38]),
    ]
    items = []
    for i, way in enumerate(ways):
        items.append(item(f"{i}"))
        items[-1].vectors["image"].CopyFrom(way)
    await upsert(stub, *items)
    for got in (await get(stub, *(each.id for each in items), read=FULL)).items:
        np.testing.assert_allclose(np.frombuffer(got.vectors["image"].data, "<f2"), [0, 0.7071, 0, 0.7071], atol=1e-3)


async def test_outcomes(stub: Stub) -> None:
    await create(stub, collection("pictures", named_space("image", 4), named_space("caption", 2)))
    assert await upsert(stub, whole()) == [CREATED]
    created = (await get(stub, "a")).items[0]
    assert await upsert(stub, whole()) == [UNCHANGED]
    assert (await get(stub, "a")).items[0] == created

    def other(change: Callable[[search_pb2.Item], object]) -> search_pb2.Item:
        changed = whole()
        change(changed)
        return changed

    last = created
    changes = [
        other(lambda one: one.metadata.update({"iso": 200})),
        other(lambda one: one.metadata.Clear()),
        other(lambda one: setattr(one.caption, "confidence", 0.25)),
        other(lambda one: one.ClearField("caption")),
        other(lambda one: one.ClearField("image_uri")),
        other(lambda one: one.ClearField("content_digest")),
        other(lambda one: one.vectors["image"].CopyFrom(embedding([0, 4, 0, 3]))),
        other(lambda one: one.vectors.pop("image")),
        other(lambda one: one.vectors["caption"].CopyFrom(embedding([1, 0]))),
    ]
    for change in changes:
        assert await upsert(stub, change) == [UPDATED], change
        now = (await get(stub, "a")).items[0]
        assert now.create_time == created.create_time
        assert now.update_time.ToNanoseconds() > last.update_time.ToNanoseconds()
        assert set(now.vectors) == set(change.vectors)
        assert (now.metadata, now.HasField("caption")) == (change.metadata, change.HasField("caption"))
        last = now
        assert await upsert(stub, change) == [UNCHANGED]


async def test_rounding_is_no_change(stub: Stub) -> None:
    await create(stub, collection("pictures", named_space(dimension=64, stored_as=SINGLE)))
    vector = np.random.default_rng(5).standard_normal(64)
    await upsert(stub, item("a", vector))
    half = (vector / np.linalg.norm(vector)).astype(np.float16)
    assert await upsert(stub, item("a", half)) == [UNCHANGED]
    assert await upsert(stub, item("a", vector * 7)) == [UNCHANGED]
    assert await upsert(stub, item("a", vector + 0.01 * np.arange(64))) == [UPDATED]


async def test_results_and_reads_keep_the_order(stub: Stub) -> None:
    await create(stub)
    await upsert(stub, item("b"), item("z"))
    response = await stub.UpsertItems(
        search_pb2.UpsertItemsRequest(collection="pictures", items=[item("z"), item("a"), item("b", [1, 0, 0, 0])])
    )
    assert [(result.id, result.outcome) for result in response.results] == [
        ("z", UNCHANGED),
        ("a", CREATED),
        ("b", UPDATED),
    ]
    got = await get(stub, "z", "no", "a", "b", "nor", "a")
    assert [each.id for each in got.items] == ["z", "a", "b", "a"]
    assert list(got.missing_ids) == ["no", "nor"]
    assert {each.id: each.update_time for each in got.items} == {r.id: r.update_time for r in response.results}


async def test_deleting_by_id(stub: Stub) -> None:
    await create(stub)
    await upsert(stub, *(item(name, [1, 0, 0, 0]) for name in "abc"))
    request = search_pb2.DeleteItemsRequest(collection="pictures", ids=search_pb2.IdList(ids=["a", "a", "c", "none"]))
    assert (await stub.DeleteItems(request)).deleted_count == 2
    assert (await stub.DeleteItems(request)).deleted_count == 0
    assert await listed(stub) == ["b"]
    assert await upsert(stub, item("a", [1, 0, 0, 0])) == [CREATED]
    await refused(stub.DeleteItems(search_pb2.DeleteItemsRequest(collection="pictures")), INVALID, Reason.QUERY_INVALID)


async def test_deleting_what_nobody_wrote_since(stub: Stub) -> None:
    """The time of the last write is a precondition: the store looks and removes in one step."""
    await create(stub)
    await upsert(stub, *(item(name, [1, 0, 0, 0]) for name in "abc"))
    seen = {one.id: one.update_time.ToJsonString() for one in (await get(stub, "a", "b")).items}
    assert await upsert(stub, item("b", [0, 1, 0, 0])) == [UPDATED]

    def unchanged(item_id: str) -> search_pb2.Filter:
        at, one = search_pb2.Condition(field="$update_time"), search_pb2.Condition(field="$id")
        at.range.at_least.string_value = at.range.at_most.string_value = seen[item_id]
        one.one_of.extend([item_id])
        both = search_pb2.FilterList(filters=[search_pb2.Filter(condition=at), search_pb2.Filter(condition=one)])
        return search_pb2.Filter(all=both)

    either = search_pb2.Filter(any=search_pb2.FilterList(filters=[unchanged("a"), unchanged("b")]))
    request = search_pb2.DeleteItemsRequest(collection="pictures", filter=either)
    assert (await stub.DeleteItems(request)).deleted_count == 1
    assert sorted(await listed(stub)) == ["b", "c"]


async def test_counts_of_ids_and_items(stub: Stub, serve: Serve) -> None:
    await create(stub)
    async with serve(max_items=2) as (small, _):
        many = [item(name) for name in "abc"]
        empty = search_pb2.IdList()
        await refused(upsert(small), INVALID, Reason.NO_ITEMS, "items")
        await refused(upsert(small, *many), INVALID, Reason.TOO_MANY_ITEMS, "items")
        await refused(get(small), INVALID, Reason.NO_ITEMS, "ids")
        await refused(get(small, "a", "b", "c"), INVALID, Reason.TOO_MANY_ITEMS, "ids")
        await refused(get(small, "a", "b\n"), INVALID, Reason.ITEM_ID_INVALID, "ids[1]")
        delete = search_pb2.DeleteItemsRequest(collection="pictures", ids=empty)
        await refused(small.DeleteItems(delete), INVALID, Reason.NO_ITEMS, "ids.ids")


async def test_odd_ids_work(stub: Stub) -> None:
    await create(stub)
    odd = ["é" * 128, "a b", "'; DROP TABLE x; --", "😀", "%", "\u2028", "a" * 256, "ß", "SS", "$id"]
    await upsert(stub, *(item(name) for name in odd))
    assert sorted(await listed(stub)) == sorted(odd)
    assert [each.id for each in (await get(stub, *odd)).items] == odd


async def test_a_bad_item_is_named_and_nothing_is_written(stub: Stub) -> None:
    await create(stub)

    def bad(**change: Any) -> search_pb2.Item:
        return item("bad", **change)

    def vector(**fields: Any) -> search_pb2.Item:
        one = item("bad")
        one.vectors["image"].CopyFrom(common_pb2.Embedding(**{"space_id": SPACE_ID, **fields}))
        return one

    four = np.ones(4, "<f4").tobytes()
    cases: list[tuple[search_pb2.Item, Reason, str]] = [
        (item(""), Reason.ITEM_ID_INVALID, "id"),
        (item("a" * 257), Reason.ITEM_ID_INVALID, "id"),
        (item("a\x00"), Reason.ITEM_ID_INVALID, "id"),
        (item("a\x7f"), Reason.ITEM_ID_INVALID, "id"),
        (item("a\x85"), Reason.ITEM_ID_INVALID, "id"),
        (item("good"), Reason.ITEM_ID_DUPLICATE, "id"),
        (bad(metadata={"a": float("nan")}), Reason.METADATA_INVALID, "metadata"),
        (bad(metadata={"a": [{"b": float("inf")}]}), Reason.METADATA_INVALID, "metadata"),
        (bad(metadata={"a\x00": 1}), Reason.METADATA_INVALID, "metadata"),
        (bad(metadata={"a": ["\x00"]}), Reason.METADATA_INVALID, "metadata"),
        (bad(metadata={"a": "x" * 65_536}), Reason.METADATA_TOO_LARGE, "metadata"),
        (bad(caption=common_pb2.Caption(text="a\x00")), Reason.TEXT_INVALID, "caption.text"),
        (bad(caption=common_pb2.Caption(text="a" * 10_001)), Reason.TEXT_TOO_LONG, "caption.text"),
        (bad(caption=common_pb2.Caption(confidence=1.5)), Reason.METADATA_INVALID, "caption.confidence"),
        (bad(image_uri="\x00"), Reason.TEXT_INVALID, "image_uri"),
        (bad(content_digest=b"short"), Reason.DIGEST_INVALID, "content_digest"),
        (vector(), Reason.VECTOR_INVALID, "vectors.image"),
        (vector(data=four, dimension=4), Reason.VECTOR_INVALID, "vectors.image"),
        (vector(data=four, dimension=3, data_type=SINGLE), Reason.VECTOR_INVALID, "vectors.image"),
        (vector(data=four, floats=[1, 1, 1, 1], dimension=4, data_type=SINGLE), Reason.VECTOR_INVALID, "vectors.image"),
        (vector(floats=[1, 1, 1, 1], dimension=3), Reason.VECTOR_INVALID, "vectors.image"),
        (vector(floats=[1, 1, 1]), Reason.VECTOR_DIMENSION_MISMATCH, "vectors.image"),
        (vector(floats=[0, 0, 0, 0]), Reason.VECTOR_INVALID, "vectors.image"),
        (vector(floats=[1, float("nan"), 0, 0]), Reason.VECTOR_INVALID, "vectors.image"),
        (vector(floats=[1, float("inf"), 0, 0]), Reason.VECTOR_INVALID, "vectors.image"),
        (vector(floats=[1, 1, 1, 1], space_id=""), Reason.VECTOR_INVALID, "vectors.image.space_id"),
    ]
    unnamed = item("bad")
    unnamed.vectors["no"].CopyFrom(embedding([1, 1, 1, 1]))
    cases.append((unnamed, Reason.SPACE_UNKNOWN, "vectors.no"))
    kindless = item("bad")
    kindless.metadata.fields["a"].SetInParent()
    cases.append((kindless, Reason.METADATA_INVALID, "metadata"))
    for one, reason, field in cases:
        await refused(upsert(stub, item("good", [1, 0, 0, 0]), one), INVALID, reason, f"items[1].{field}")
    assert await listed(stub) == []


async def test_every_bad_item_is_named(stub: Stub) -> None:
    await create(stub)
    items = [item("a"), item("b\x00"), item("c", [0, 0, 0, 0]), item("d"), item("d")]
    fields = ["items[1].id", "items[2].vectors.image", "items[4].id"]
    await refused(upsert(stub, *items), INVALID, Reason.ITEM_ID_INVALID, *fields)
    error = await refused(
        upsert(stub, *(item("a") for _ in range(40))), INVALID, Reason.ITEM_ID_DUPLICATE, "items[1].id"
    )
    assert "38 more" in error.message


async def test_the_wrong_space_names_both(stub: Stub) -> None:
    await create(stub)
    wrong = item("a")
    wrong.vectors["image"].CopyFrom(embedding([1, 0, 0, 0], OTHER_SPACE_ID))
    error = await refused(
        upsert(stub, item("b"), wrong),
        grpc.StatusCode.FAILED_PRECONDITION,
        Reason.SPACE_MISMATCH,
        "items[1].vectors.image.space_id",
    )
    assert SPACE_ID in error.message
    assert OTHER_SPACE_ID in error.message
    assert (error.metadata["space"], error.metadata["expected_space"]) == (OTHER_SPACE_ID, SPACE_ID)
    assert await listed(stub) == []
    longer = item("a")
    longer.vectors["image"].CopyFrom(embedding([1, 0, 0, 0, 0], OTHER_SPACE_ID))
    await refused(upsert(stub, longer), grpc.StatusCode.FAILED_PRECONDITION, Reason.SPACE_MISMATCH)


async def test_raw_spaces_keep_lengths_within_what_can_be_stored(stub: Stub) -> None:
    raw = {"normalized": False}
    await create(
        stub,
        collection("pictures", named_space("image", 2, space=raw), named_space("full", 2, space=raw, stored_as=SINGLE)),
    )
    await upsert(stub, item("a", [30_000, 65_504]))
    got = (await get(stub, "a", read=FULL)).items[0]
    assert np.frombuffer(got.vectors["image"].data, "<f2").tolist() == [30_000, 65_504]
    for numbers in ([1, 65_520], [1, 1e9], [1e-9, 1e-9]):
        await refused(upsert(stub, item("a", numbers)), INVALID, Reason.VECTOR_INVALID, "items[0].vectors.image")
    large = item("b")
    large.vectors["full"].CopyFrom(embedding([1e6, 1]))
    await upsert(stub, large)
    read = search_pb2.ReadOptions(view=search_pb2.ITEM_VIEW_FULL, data_type=HALF)
    await refused(get(stub, "b", read=read), INVALID, Reason.OPTION_INVALID, "read.data_type")
    for numbers in ([1e-30, 0], [1e30, 0]):
        large.vectors["full"].CopyFrom(embedding(numbers))
        await refused(upsert(stub, large), INVALID, Reason.VECTOR_INVALID, "items[0].vectors.full")


@pytest.mark.parametrize("size", [65_536, 65_537])
async def test_metadata_is_measured_as_json(stub: Stub, size: int) -> None:
    await create(stub)
    # {"k":"..."} has 8 bytes besides the text, and each of these letters two.
    call = upsert(stub, item("a", metadata={"k": "é" * ((size - 8) // 2) + "x" * (size % 2)}))
    if size > 65_536:
        await refused(call, INVALID, Reason.METADATA_TOO_LARGE, "items[0].metadata")
    else:
        assert await call == [CREATED]


async def test_too_large_a_message_is_told_so(stub: Stub, serve: Serve) -> None:
    await create(stub)
    async with serve(max_message_bytes=65_536) as (small, _):
        fat = [item(f"{i}", metadata={"x": "y" * 1_000}) for i in range(70)]
        await refused(upsert(small, *fat), INVALID, Reason.MESSAGE_TOO_LARGE)
        await upsert(small, *fat[:30])
        await upsert(small, *fat[30:60])
        await upsert(small, *fat[60:])
        error = await refused(get(small, *(each.id for each in fat)), INVALID, Reason.RESPONSE_TOO_LARGE, "ids")
        fits = int(error.metadata["fits"])
        assert len((await get(small, *(each.id for each in fat[:fits]))).items) == fits
        read = search_pb2.ReadOptions(view=search_pb2.ITEM_VIEW_ID)
        assert len((await get(small, *(each.id for each in fat), read=read)).items) == 70
