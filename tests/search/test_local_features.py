"""Local features of items: kept where the collection keeps them, returned where asked for, alike in every store."""

from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.reasons import Reason
from search_svc.app import make_store
from search_svc.local_features import FeatureKind, LocalFeatures
from search_svc.model import Item, View
from tests.search.conftest import Serve, settings_for
from tests.search.support import Stub, collection, create, definition, item, refused, search_request, upsert

CREATED = search_pb2.UPSERT_OUTCOME_CREATED
UPDATED = search_pb2.UPSERT_OUTCOME_UPDATED
UNCHANGED = search_pb2.UPSERT_OUTCOME_UNCHANGED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
ORB, ROOTSIFT = common_pb2.LOCAL_FEATURE_KIND_ORB, common_pb2.LOCAL_FEATURE_KIND_ROOTSIFT
NONE = common_pb2.LOCAL_FEATURE_KIND_UNSPECIFIED


def features(
    count: int = 3, first: int = 0, kind: common_pb2.LocalFeatureKind.ValueType = ORB
) -> common_pb2.LocalFeatures:
    size = 32 if kind == ORB else 128
    return common_pb2.LocalFeatures(
        kind=kind,
        points=bytes((first + place) % 256 for place in range(4 * count)),
        descriptors=bytes((first + 7 * place) % 256 for place in range(size * count)),
    )


def keeping(name: str = "pictures") -> search_pb2.Collection:
    message = collection(name)
    message.local_features = True
    return message


async def got(
    stub: Stub, *ids: str, view: search_pb2.ItemView.ValueType = search_pb2.ITEM_VIEW_BASIC, asked: bool = True
) -> list[common_pb2.LocalFeatures | None]:
    read = search_pb2.ReadOptions(view=view, local_features=asked)
    answer = await stub.GetItems(search_pb2.GetItemsRequest(collection="pictures", ids=ids, read=read))
    return told(answer.items)


def told(items: Sequence[search_pb2.Item]) -> list[common_pb2.LocalFeatures | None]:
    return [each.local_features if each.HasField("local_features") else None for each in items]


async def test_features_are_kept_and_come_back_where_asked_for(stub: Stub) -> None:
    assert (await create(stub, keeping())).local_features
    wanted = [features(), features(0), features(1_000, 5, ROOTSIFT), features(500, 9)]
    items = [item(f"i{place}", [1, 0, 0, place / 9], local_features=each) for place, each in enumerate(wanted)]
    assert await upsert(stub, *items, item("none", [1, 0, 0, 0])) == [CREATED] * 5
    ids = ["i0", "i1", "i2", "i3", "none"]
    for view in (search_pb2.ITEM_VIEW_BASIC, search_pb2.ITEM_VIEW_FULL):
        assert await got(stub, *ids, view=view) == [*wanted, None]
        assert await got(stub, *ids, view=view, asked=False) == [None] * 5
    assert await got(stub, *ids, view=search_pb2.ITEM_VIEW_ID) == [None] * 5

    async def listed(*, asked: bool) -> list[search_pb2.Item]:
        read = search_pb2.ReadOptions(local_features=asked)
        answer = await stub.ListItems(search_pb2.ListItemsRequest(collection="pictures", read=read))
        return sorted(answer.items, key=lambda each: each.id)

    assert told(await listed(asked=True)) == [*wanted, None]
    plain = await listed(asked=False)
    assert told(plain) == [None] * 5
    assert [each.local_feature_kind for each in plain] == [ORB, ORB, ROOTSIFT, ORB, NONE]
    for limit in (5, 150):
        request = search_request([1, 0, 0, 0], limit=limit)
        assert told([hit.item for hit in (await stub.Search(request)).hits]) == [None] * 5
        request.read.local_features = True
        hits = (await stub.Search(request)).hits
        assert {hit.item.id: each for hit, each in zip(hits, told([hit.item for hit in hits]), strict=True)} == dict(
            zip(ids, [*wanted, None], strict=True)
        )


async def test_what_changes_is_told_and_what_is_left_out_is_removed(stub: Stub) -> None:
    await create(stub, keeping())

    async def write(**fields: Any) -> search_pb2.UpsertResult:
        request = search_pb2.UpsertItemsRequest(collection="pictures", items=[item("a", [1, 0, 0, 0], **fields)])
        return (await stub.UpsertItems(request)).results[0]

    last = await write()
    assert last.outcome == CREATED
    changed = features(3, 1)
    changed.descriptors = changed.descriptors[:-1] + b"\x00"
    empty = common_pb2.LocalFeatures(kind=ORB)
    for each in (features(), features(3, 1), changed, features(3, 1, ROOTSIFT), empty):
        now = await write(local_features=each)
        assert (now.outcome, list(now.changes)) == (UPDATED, [search_pb2.ITEM_CHANGE_LOCAL_FEATURES])
        assert now.update_time.ToNanoseconds() > last.update_time.ToNanoseconds()
        assert await got(stub, "a") == [each]
        last = now
        again = await write(local_features=each)
        assert (again.outcome, again.update_time) == (UNCHANGED, last.update_time)
    assert list((await write()).changes) == [search_pb2.ITEM_CHANGE_LOCAL_FEATURES]
    assert await got(stub, "a") == [None]
    assert (await write()).outcome == UNCHANGED


async def test_other_changes_leave_features_alone(stub: Stub) -> None:
    await create(stub, keeping())
    await upsert(stub, item("a", [1, 0, 0, 0], {"k": 1}, local_features=features()))
    request = search_pb2.UpsertItemsRequest(
        collection="pictures",
        items=[item("a", [0, 1, 0, 0], {"l": 2}, local_features=features())],
        metadata_policy=search_pb2.METADATA_POLICY_MERGE,
    )
    result = (await stub.UpsertItems(request)).results[0]
    assert list(result.changes) == [search_pb2.ITEM_CHANGE_VECTORS, search_pb2.ITEM_CHANGE_METADATA]
    assert await got(stub, "a") == [features()]
    # They go with their item: one that is made anew has none.
    await stub.DeleteItems(search_pb2.DeleteItemsRequest(collection="pictures", ids=search_pb2.IdList(ids=["a"])))
    assert await upsert(stub, item("a")) == [CREATED]
    assert await got(stub, "a") == [None]


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (common_pb2.LocalFeatures(points=bytes(4), descriptors=bytes(32)), "kind"),
        (common_pb2.LocalFeatures(kind=9, points=bytes(4), descriptors=bytes(32)), "kind"),  # type: ignore[arg-type]  # of no release
        (common_pb2.LocalFeatures(kind=ORB, points=bytes(5), descriptors=bytes(32)), "points"),
        (features(1_001), "points"),
        (common_pb2.LocalFeatures(kind=ORB, points=bytes(8), descriptors=bytes(32)), "descriptors"),
        (common_pb2.LocalFeatures(kind=ROOTSIFT, points=bytes(4), descriptors=bytes(32)), "descriptors"),
        (common_pb2.LocalFeatures(kind=ORB, descriptors=bytes(1)), "descriptors"),
    ],
)
async def test_what_are_no_features_is_refused(stub: Stub, bad: common_pb2.LocalFeatures, field: str) -> None:
    await create(stub, keeping())
    call = upsert(stub, item("good", local_features=features()), item("bad", local_features=bad))
    await refused(call, INVALID, Reason.FEATURES_INVALID, f"items[1].local_features.{field}")
    assert await got(stub, "good", "bad") == []


async def test_a_collection_that_keeps_none_refuses_them(stub: Stub) -> None:
    assert not (await create(stub)).local_features
    call = upsert(stub, item("a"), item("b", local_features=features()))
    error = await refused(
        call, grpc.StatusCode.FAILED_PRECONDITION, Reason.FEATURES_NOT_KEPT, "items[1].local_features"
    )
    assert "make another collection with local_features" in error.message
    assert await upsert(stub, item("a")) == [CREATED]
    # Whoever asks for what is not there gets what is.
    assert await got(stub, "a") == [None]


async def test_keeping_features_is_part_of_the_definition(stub: Stub) -> None:
    await create(stub, keeping())
    # One that does not ask is content.
    assert (await create(stub, collection())).local_features
    await create(stub, collection("plain"))
    error = await refused(
        create(stub, keeping("plain")), grpc.StatusCode.ALREADY_EXISTS, Reason.COLLECTION_EXISTS, "collection.name"
    )
    assert "keeps no local features" in error.message
    names = (await stub.ListCollections(search_pb2.ListCollectionsRequest())).collections
    assert {each.name: each.local_features for each in names} == {"pictures": True, "plain": False}
    deleted = await stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name="pictures"))
    assert deleted.deleted_count == 0
    assert not (await create(stub, collection())).local_features


async def test_pages_end_where_the_message_is_full(serve: Serve) -> None:
    async with serve(max_message_bytes=256 * 1024) as (stub, _):
        await create(stub, keeping())
        ids = [f"i{place:02}" for place in range(30)]
        for begin in range(0, 30, 10):
            await upsert(stub, *(item(each, local_features=features(500)) for each in ids[begin : begin + 10]))
        request = search_pb2.ListItemsRequest(collection="pictures", read=search_pb2.ReadOptions(local_features=True))
        seen, pages = [], 0
        while True:
            page = await stub.ListItems(request)
            assert page.ByteSize() <= 256 * 1024
            assert told(page.items) == [features(500)] * len(page.items)
            seen += [each.id for each in page.items]
            pages += 1
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert sorted(seen) == ids
        assert pages == 3
        error = await refused(got(stub, *ids), INVALID, Reason.RESPONSE_TOO_LARGE, "ids")
        assert "ids 14 would fit" in error.message
        assert await got(stub, *ids, asked=False) == [None] * 30
        await upsert(stub, item("large", local_features=features(1_000, kind=ROOTSIFT)))
    async with serve(max_message_bytes=64 * 1024) as (small, _):
        error = await refused(got(small, "large"), INVALID, Reason.RESPONSE_TOO_LARGE, "ids")
        assert "without read.local_features" in error.message


async def test_every_kind_of_store_reads_them_in_pieces(each_url: str) -> None:
    store = make_store(settings_for(each_url, store_connect_seconds=60))
    await store.open()
    made = (await store.create_collection(definition(local_features=True), timeout_s=60)).collection
    assert made.definition.local_features
    kept = [LocalFeatures(FeatureKind.ORB, bytes([place]) * 4, bytes([place]) * 32) for place in range(140)]
    items = [Item(f"i{place:03}", local_features=each) for place, each in enumerate(kept)]
    await store.upsert(made, items, timeout_s=60)
    view = View.BASIC | View.FEATURES
    read = await store.get_items(made, [each.id for each in items], view=view, max_bytes=1 << 24, timeout_s=60)
    assert [each.local_features for each in read.items] == kept
    page = await store.list_items(made, filter=None, after="", count=135, view=view, max_bytes=1 << 24, timeout_s=60)
    assert len(page.items) == 135
    assert all(each.local_features == kept[int(each.id[1:])] for each in page.items)
    cut = await store.get_items(made, [each.id for each in items], view=view, max_bytes=1_000, timeout_s=60)
    assert cut.cut
    assert 1 < len(cut.items) < 30
    await store.close()
    # Another process knows what the first one made.
    other = make_store(settings_for(each_url, store_connect_seconds=60))
    await other.open()
    found = await other.find_collection("pictures", fresh=True, timeout_s=60)
    assert found.definition == made.definition
    await other.close()
