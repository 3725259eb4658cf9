"""Perceptual hashes and near-duplicates of the client: what is sent, what comes back, and what is refused."""

from pathlib import Path

import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_client import (
    Client,
    IngestItem,
    NearAction,
    NearDuplicate,
    NearDuplicates,
    Outcome,
    PerceptualHash,
    Query,
)
from lensmesh_client.errors import InvalidInput, Reason
from lensmesh_client.translate import ingested
from lensmesh_client.vectors import embedded
from tests.client.fake_router import FakeRouter

HASH = PerceptualHash("0f" * 32, 90)


async def test_hashes_of_embedded_images(client: Client, router: FakeRouter) -> None:
    plain = await client.embed(images=[b"one"])
    assert plain.perceptual_hashes == ()
    found = await client.embed(images=[b"one", b"two"], perceptual_hash=True)
    assert router.calls[-1].options.perceptual_hash
    assert [each and len(each.hash) for each in found.perceptual_hashes] == [64, 64]
    told = encoder_pb2.EncodeResult(perceptual_hash=common_pb2.PerceptualHash(hash=bytes(32), quality=7))
    assert embedded(told, 0).perceptual_hash == PerceptualHash("00" * 32, 7)


async def test_what_is_asked_of_an_ingest(client: Client, router: FakeRouter) -> None:
    await client.ingest(IngestItem(b"one"))
    assert not router.calls[-1].options.HasField("near_duplicates")
    for given, action, distance, field in (
        ("skip", router_pb2.NEAR_DUPLICATE_ACTION_SKIP, 31, ""),
        (NearAction.STORE, router_pb2.NEAR_DUPLICATE_ACTION_STORE, 31, ""),
        (NearDuplicates("mark", 8, "copy_of"), router_pb2.NEAR_DUPLICATE_ACTION_MARK, 8, "copy_of"),
    ):
        await client.ingest(IngestItem(b"one"), near_duplicates=given)
        sent = router.calls[-1].options.near_duplicates
        assert (sent.action, sent.max_distance, sent.field) == (action, distance, field)
    [_] = [each async for each in client.ingest_many([b"one"], near_duplicates="mark")]
    assert router.options[-1].near_duplicates.action == router_pb2.NEAR_DUPLICATE_ACTION_MARK
    with pytest.raises(InvalidInput, match="use one of store, mark, skip"):
        await client.ingest(IngestItem(b"one"), near_duplicates="drop")


def test_what_became_of_a_near_duplicate() -> None:
    message = router_pb2.IngestedItem(
        id="b",
        outcome=search_pb2.UPSERT_OUTCOME_SKIPPED,
        near_duplicate=router_pb2.NearDuplicate(id="a", distance=4),
    )
    result = ingested(message, 0, "")
    assert (result.outcome, result.near_duplicate) == (Outcome.SKIPPED, NearDuplicate("a", 4))
    assert ingested(router_pb2.IngestedItem(id="b"), 0, "").near_duplicate is None


async def test_searches_by_hash(client: Client, router: FakeRouter, tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"cat")
    await client.search(image=path, by_hash=True)
    [query] = router.calls[-1].queries
    assert (query.image.content, query.by_hash) == (b"cat", True)
    await client.search(queries=["a cat", Query(perceptual_hash=HASH), Query(image=b"dog", by_hash=True)])
    queries = router.calls[-1].queries
    assert [(each.name, each.WhichOneof("query"), each.by_hash) for each in queries] == [
        ("text", "text", False),
        ("hash", "perceptual_hash", False),
        ("image", "image", True),
    ]
    assert (queries[1].perceptual_hash.hash, queries[1].perceptual_hash.quality) == (bytes.fromhex("0f" * 32), 90)
    await client.search(perceptual_hash=HASH)
    assert router.calls[-1].queries[0].perceptual_hash.quality == 90


async def test_hashes_that_are_none_are_refused_before_anything_is_sent(client: Client, router: FakeRouter) -> None:
    calls = len(router.calls)
    for bad in (
        PerceptualHash("0f" * 31, 90),
        PerceptualHash("0g" * 32, 90),
        PerceptualHash("0f" * 32, 101),
        PerceptualHash("0f" * 32, -1),
        PerceptualHash("0f" * 32, 90, "0f"),
    ):
        with pytest.raises(InvalidInput) as caught:
            await client.search(perceptual_hash=bad)
        assert caught.value.reason == Reason.HASH_INVALID
    with pytest.raises(InvalidInput, match="by_hash"):
        await client.search("a cat", by_hash=True)
    assert len(router.calls) == calls


def test_the_distance_is_that_of_the_nearest_hashes() -> None:
    other = PerceptualHash("0e" * 32, 90)
    assert HASH.distance(HASH) == 0
    assert HASH.distance(other) == 32
    assert HASH.distance(PerceptualHash("ff" * 32, 90, "0f" * 32)) == 0
    assert PerceptualHash("ff" * 32, 90, "0e" * 32).distance(PerceptualHash("00" * 32, 90, "0e" * 32)) == 0
