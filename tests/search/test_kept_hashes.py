"""Perceptual hashes of items: kept, returned, replaced and refused alike in every store."""

import grpc
import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.reasons import Reason
from tests.search.support import Stub, create, item, refused, upsert

CREATED = search_pb2.UPSERT_OUTCOME_CREATED
UPDATED = search_pb2.UPSERT_OUTCOME_UPDATED
UNCHANGED = search_pb2.UPSERT_OUTCOME_UNCHANGED


def hashed(first: int = 0, quality: int = 90, unframed: bytes = b"") -> common_pb2.PerceptualHash:
    return common_pb2.PerceptualHash(
        hash=bytes((first + place) % 256 for place in range(32)), quality=quality, unframed=unframed
    )


async def kept(stub: Stub, *ids: str, view: search_pb2.ItemView.ValueType = search_pb2.ITEM_VIEW_BASIC) -> list[object]:
    request = search_pb2.GetItemsRequest(collection="pictures", ids=ids, read=search_pb2.ReadOptions(view=view))
    items = (await stub.GetItems(request)).items
    return [each.perceptual_hash if each.HasField("perceptual_hash") else None for each in items]


async def test_hashes_are_kept_and_returned(stub: Stub) -> None:
    await create(stub)
    hashes = [hashed(), hashed(7, 0), hashed(9, 100, bytes(reversed(range(32)))), hashed(0, 49)]
    items = [item(f"i{place}", [1, 0, 0, 0], perceptual_hash=each) for place, each in enumerate(hashes)]
    assert await upsert(stub, *items, item("none", [1, 0, 0, 0])) == [CREATED] * 5
    ids = ["i0", "i1", "i2", "i3", "none"]
    assert await kept(stub, *ids) == [*hashes, None]
    assert await kept(stub, *ids, view=search_pb2.ITEM_VIEW_FULL) == [*hashes, None]
    assert await kept(stub, *ids, view=search_pb2.ITEM_VIEW_ID) == [None] * 5
    listed = await stub.ListItems(search_pb2.ListItemsRequest(collection="pictures"))
    assert {each.id: each.perceptual_hash for each in listed.items if each.HasField("perceptual_hash")} == dict(
        zip(ids, hashes, strict=False)
    )


async def test_a_hash_that_changes_makes_an_update_and_one_left_out_is_removed(stub: Stub) -> None:
    await create(stub)
    assert await upsert(stub, item("a", perceptual_hash=hashed())) == [CREATED]
    assert await upsert(stub, item("a", perceptual_hash=hashed())) == [UNCHANGED]
    for changed in (hashed(1), hashed(1, 80), hashed(1, 80, bytes(32))):
        assert await upsert(stub, item("a", perceptual_hash=changed)) == [UPDATED]
        assert await kept(stub, "a") == [changed]
    assert await upsert(stub, item("a")) == [UPDATED]
    assert await kept(stub, "a") == [None]


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (common_pb2.PerceptualHash(), "hash"),
        (common_pb2.PerceptualHash(hash=bytes(31)), "hash"),
        (common_pb2.PerceptualHash(hash=bytes(33)), "hash"),
        (common_pb2.PerceptualHash(hash=bytes(32), quality=101), "quality"),
        (common_pb2.PerceptualHash(hash=bytes(32), unframed=bytes(16)), "unframed"),
    ],
)
async def test_a_hash_that_is_none_is_refused(stub: Stub, bad: common_pb2.PerceptualHash, field: str) -> None:
    await create(stub)
    call = upsert(stub, item("good", perceptual_hash=hashed()), item("bad", perceptual_hash=bad))
    await refused(call, grpc.StatusCode.INVALID_ARGUMENT, Reason.HASH_INVALID, f"items[1].perceptual_hash.{field}")
    assert await kept(stub, "good", "bad") == []
