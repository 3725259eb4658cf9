"""Searches by perceptual hash: every item within 31 bits and no other, alike in every store."""

import random

import grpc
import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.reasons import Reason
from search_svc.hashes import bands_near, bands_of, distances
from tests.search.support import Stub, create, embedding, found, item, refused, upsert, where

BITS = 256


def flipped(hash_: bytes, count: int, seed: int = 0) -> bytes:
    """The hash with so many of its bits changed."""
    number = int.from_bytes(hash_, "big")
    for bit in random.Random(seed).sample(range(BITS), count):
        number ^= 1 << bit
    return number.to_bytes(32, "big")


def hashed(hash_: bytes, quality: int = 90, unframed: bytes = b"") -> common_pb2.PerceptualHash:
    return common_pb2.PerceptualHash(hash=hash_, quality=quality, unframed=unframed)


def by_hash(hash_: bytes, quality: int = 90, unframed: bytes = b"", **fields: object) -> search_pb2.SearchRequest:
    request = search_pb2.SearchRequest(**{"collection": "pictures", **fields})  # type: ignore[arg-type]  # a message's own fields
    request.legs.add(perceptual_hash=hashed(hash_, quality, unframed))
    return request


HASH = bytes(random.Random(1).randbytes(32))
OTHER = bytes(random.Random(2).randbytes(32))


async def test_all_within_31_bits_and_no_others(stub: Stub) -> None:
    await create(stub)
    drawn = {f"i{count:03}": flipped(HASH, count, seed) for seed, count in enumerate([*range(48), 0, 31, 31, 32, 64])}
    drawn |= {f"r{number}": random.Random(100 + number).randbytes(32) for number in range(50)}
    await upsert(stub, *(item(name, [1, 0, 0, 0], perceptual_hash=hashed(each)) for name, each in drawn.items()))
    response = await stub.Search(by_hash(HASH, limit=100))
    bits = {name: int(distances([HASH], [[each]])[0]) for name, each in drawn.items()}
    expected = sorted((count, name) for name, count in bits.items() if count <= 31)
    assert [(round((1 - hit.score) * BITS), hit.item.id) for hit in response.hits] == expected
    assert [hit.score for hit in response.hits] == [1 - count / BITS for count, _ in expected]
    assert [hit.legs[0].rank for hit in response.hits] == list(range(1, len(expected) + 1))
    assert response.exact


def test_no_hash_within_31_bits_lacks_a_band() -> None:
    drawn = random.Random(5)
    for number in range(300):
        one = drawn.randbytes(32)
        other = flipped(one, 31, number)
        assert set(bands_near([one])) & set(bands_of([other]))
    # Two differences in each band are 32, and are found by none.
    apart = bytes(byte ^ 3 if place % 2 else byte for place, byte in enumerate(HASH))
    assert not set(bands_near([HASH])) & set(bands_of([apart]))


async def test_pages_and_least_scores(stub: Stub) -> None:
    await create(stub)
    await upsert(stub, *(item(f"i{n:02}", perceptual_hash=hashed(flipped(HASH, n, n))) for n in range(20)))
    everything = [f"i{n:02}" for n in range(20)]
    assert await found(stub, by_hash(HASH, limit=20)) == everything
    assert await found(stub, by_hash(HASH, limit=7, offset=7)) == everything[7:14]
    assert await found(stub, by_hash(HASH, limit=20, min_score=1 - 5 / BITS)) == everything[:6]
    assert await found(stub, by_hash(HASH, limit=20, filter=where("$id", one_of=["i03", "i17"]))) == ["i03", "i17"]


async def test_the_nearest_of_an_images_hashes_counts(stub: Stub) -> None:
    await create(stub)
    await upsert(
        stub,
        item("plain", perceptual_hash=hashed(flipped(HASH, 3))),
        item("framed", perceptual_hash=hashed(OTHER, 90, flipped(HASH, 2))),
        item("other", perceptual_hash=hashed(OTHER)),
    )
    assert await found(stub, by_hash(HASH)) == ["framed", "plain"]
    assert await found(stub, by_hash(OTHER)) == ["framed", "other"]
    assert await found(stub, by_hash(bytes(32), 90, HASH)) == ["framed", "plain"]
    assert await found(stub, by_hash(OTHER, 90, HASH)) == ["framed", "other", "plain"]


async def test_hashes_that_say_little_are_compared_with_none(stub: Stub) -> None:
    await create(stub)
    await upsert(
        stub,
        item("poor", perceptual_hash=hashed(HASH, 49)),
        item("rich", perceptual_hash=hashed(HASH, 50)),
        item("none", [1, 0, 0, 0]),
    )
    assert await found(stub, by_hash(HASH)) == ["rich"]
    assert await found(stub, by_hash(HASH, 49)) == []
    await upsert(stub, item("rich", perceptual_hash=hashed(HASH, 10)))
    assert await found(stub, by_hash(HASH)) == []


async def test_a_hash_is_one_leg_of_several(stub: Stub) -> None:
    await create(stub)
    await upsert(
        stub,
        item("both", [1, 0, 0, 0], perceptual_hash=hashed(flipped(HASH, 4))),
        item("vector", [0.9, 0.1, 0, 0], {"artist": "a"}),
        item("hash", [0, 0, 0, 1], {"artist": "a"}, perceptual_hash=hashed(HASH)),
    )
    request = by_hash(HASH)
    request.legs[0].name = "look"
    request.legs.add(name="vector", embedding=embedding([1, 0, 0, 0]))
    response = await stub.Search(request)
    assert response.hits[0].item.id == "both"
    assert {hit.item.id for hit in response.hits} == {"both", "vector", "hash"}
    assert {leg.name for leg in response.hits[0].legs} == {"look", "vector"}
    assert response.hits[0].legs[0].score == 1 - 4 / BITS
    request.legs[0].weight = -1
    pushed = await stub.Search(request)
    assert [hit.item.id for hit in pushed.hits] == ["vector", "both", "hash"]
    # Conditions are of what finds, not of what pushes away.
    request.filter.CopyFrom(where("artist", equals="a"))
    request.group_by.fields.append("artist")
    request.legs.add(name="item", item_id="both")
    pushed = await stub.Search(request)
    assert [hit.item.id for hit in pushed.hits] == ["vector"]
    grouped = by_hash(HASH, group_by=search_pb2.GroupBy(fields=["artist"]))
    assert [
        (hit.item.id, [value.string_value for value in hit.group.values]) for hit in (await stub.Search(grouped)).hits
    ] == [
        ("hash", ["a"]),
        ("both", []),
    ]


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (hashed(bytes(31)), "hash"),
        (hashed(bytes(64)), "hash"),
        (hashed(b""), "hash"),
        (hashed(HASH, 101), "quality"),
        (hashed(HASH, 90, bytes(1)), "unframed"),
    ],
)
async def test_a_hash_that_is_none_is_refused(stub: Stub, bad: common_pb2.PerceptualHash, field: str) -> None:
    await create(stub)
    request = search_pb2.SearchRequest(collection="pictures")
    request.legs.add(perceptual_hash=bad)
    await refused(
        stub.Search(request),
        grpc.StatusCode.INVALID_ARGUMENT,
        Reason.HASH_INVALID,
        f"legs[0].perceptual_hash.{field}",
    )
    assert await found(stub, by_hash(HASH)) == []


async def test_many_of_one_hash_hide_no_other(stub: Stub) -> None:
    await create(stub)
    same = [item(f"s{n:03}", perceptual_hash=hashed(HASH)) for n in range(300)]
    await upsert(stub, *same, item("near", perceptual_hash=hashed(flipped(HASH, 30))))
    response = await stub.Search(by_hash(HASH, limit=1, offset=300))
    assert [hit.item.id for hit in response.hits] == ["near"]
