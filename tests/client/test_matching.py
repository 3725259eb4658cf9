"""The client's `match`: what is sent, what comes back, and what is refused."""

from pathlib import Path

import pytest
from google.protobuf import struct_pb2

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_client import Client, MatchBasis, MatchGeometry, MatchVerdict
from lensmesh_client.errors import InvalidInput, Reason
from tests.client.fake_router import FakeRouter


def told(verdict: router_pb2.MatchVerdict.ValueType) -> router_pb2.MatchResult:
    """An answer in which every field is set."""
    best = router_pb2.MatchCandidate(
        item=search_pb2.Item(id="cat", content_digest=bytes(32)),
        entry=struct_pb2.ListValue(values=[struct_pb2.Value(string_value="felix"), struct_pb2.Value(number_value=7)]),
        confidence=0.75,
        basis=router_pb2.MATCH_BASIS_GEOMETRY,
        cosine=0.5,
        hash_distance=3,
        geometry=router_pb2.MatchGeometry(
            inlier_count=40,
            tentative_count=90,
            query_point_count=500,
            item_point_count=400,
            homography=[1, 0, 0, 0, 1, 0, 0, 0, 1],
            pairs=[0.25, 0.5, 0.75, 1, 0, 0.125, 0.25, 0.5],
        ),
    )
    other = router_pb2.MatchCandidate(item=search_pb2.Item(id="dog"), basis=router_pb2.MATCH_BASIS_VECTOR)
    return router_pb2.MatchResult(
        match=router_pb2.ImageMatch(verdict=verdict, best=best, alternatives=[other], ambiguous=True),
        encode=common_pb2.Timings(compute_us=5),
        store_us=6,
        verify_us=7,
    )


async def test_what_is_sent(client: Client, router: FakeRouter) -> None:
    await client.match(b"cat")
    plain = router.calls[-1]
    assert [image.content for image in plain.images] == [b"cat"]
    assert not plain.HasField("filter")
    assert not plain.thresholds.HasField("match")
    await client.match(
        [b"cat", b"dog"],
        collection="pets",
        entry_fields=["artist", "entry"],
        filter="year>2000",
        space="image",
        candidates=50,
        alternatives=3,
        match_threshold=0.9,
        unsure_threshold=0.25,
        with_vectors=True,
        priority="bulk",
    )
    sent = router.calls[-1]
    assert (sent.collection, [*sent.entry_fields], sent.space) == ("pets", ["artist", "entry"], "image")
    assert (sent.candidates, sent.alternatives, sent.priority) == (50, 3, common_pb2.PRIORITY_BULK)
    assert (sent.thresholds.match, sent.thresholds.unsure) == (pytest.approx(0.9), 0.25)
    assert (sent.filter.condition.field, sent.read.view) == ("year", search_pb2.ITEM_VIEW_FULL)
    await client.match([b"cat"], entry_fields="artist", match_threshold=0.0)
    assert [*router.calls[-1].entry_fields] == ["artist"]
    assert router.calls[-1].thresholds.HasField("match")


async def test_what_comes_back(client: Client, router: FakeRouter) -> None:
    router.matches[b"cat"] = told(router_pb2.MATCH_VERDICT_MATCH)
    cat, bad, missing = await client.match([b"cat", b"no image", Path("no-such.png")])
    assert (cat.verdict, cat.ambiguous, cat.error) == (MatchVerdict.MATCH, True, None)
    assert (cat.encode.compute_us, cat.store_us, cat.verify_us) == (5, 6, 7)
    assert cat.best is not None
    assert cat.matched is cat.best
    assert (cat.best.id, cat.best.entry, cat.best.confidence) == ("cat", ("felix", 7), 0.75)
    assert (cat.best.basis, cat.best.cosine, cat.best.hash_distance) == (MatchBasis.GEOMETRY, 0.5, 3)
    pairs = ((0.25, 0.5, 0.75, 1.0), (0.0, 0.125, 0.25, 0.5))
    assert cat.best.geometry == MatchGeometry(40, 90, 500, 400, (1, 0, 0, 0, 1, 0, 0, 0, 1), pairs)
    [other] = cat.alternatives
    assert (other.id, other.entry, other.cosine, other.hash_distance, other.geometry) == ("dog", *[None] * 4)
    for failed, reason in ((bad, Reason.IMAGE_UNDECODABLE), (missing, Reason.IMAGE_MISSING)):
        assert failed.error is not None
        assert (failed.error.reason, failed.verdict, failed.best) == (reason, None, None)
        with pytest.raises(InvalidInput):
            _ = failed.matched


async def test_only_a_match_is_matched(client: Client, router: FakeRouter) -> None:
    words = {
        router_pb2.MATCH_VERDICT_UNSURE: MatchVerdict.UNSURE,
        router_pb2.MATCH_VERDICT_NO_MATCH: MatchVerdict.NO_MATCH,
        # Of a newer release: nothing to rely on.
        99: MatchVerdict.UNSURE,
    }
    for number, verdict in words.items():
        router.matches[b"cat"] = told(number)  # type: ignore[arg-type]  # a number that has no name
        [result] = await client.match(b"cat")
        assert (result.verdict, result.matched) == (verdict, None)
        assert result.best is not None


async def test_many_images_are_cut_and_come_back_in_order(client: Client, router: FakeRouter) -> None:
    contents = [f"image {number}".encode() for number in range(150)]
    for content in contents:
        router.matches[content] = told(router_pb2.MATCH_VERDICT_MATCH)
        router.matches[content].match.best.item.id = content.decode()
    results = await client.match(contents, collection="c")
    assert [result.matched and result.matched.id for result in results] == [content.decode() for content in contents]
    assert max(len(call.images) for call in router.calls if isinstance(call, router_pb2.MatchImagesRequest)) <= 64


async def test_what_cannot_be_sent_is_refused(client: Client) -> None:
    for arguments, reason in (
        ({"entry_fields": [7]}, Reason.QUERY_INVALID),
        ({"priority": "soon"}, Reason.OPTION_INVALID),
        ({"candidates": -1}, Reason.OPTION_INVALID),
        ({"match_threshold": "high"}, Reason.OPTION_INVALID),
        ({"collection": None}, Reason.TEXT_INVALID),
    ):
        with pytest.raises(InvalidInput) as caught:
            await client.match(b"cat", **arguments)
        assert caught.value.reason is reason
