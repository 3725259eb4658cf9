"""Verdicts of a small mesh: copies, other images, entries with several views, bad images beside good ones."""

from typing import Any

import numpy as np
import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from tests.router.matching.conftest import MatchMesh
from tests.router.matching.images import copy, photographs, saved

MATCH, UNSURE, NO_MATCH = (
    router_pb2.MATCH_VERDICT_MATCH,
    router_pb2.MATCH_VERDICT_UNSURE,
    router_pb2.MATCH_VERDICT_NO_MATCH,
)


def beside(vector: common_pb2.Embedding, cosine: float, seed: int = 1) -> common_pb2.Embedding:
    """A vector whose cosine to another one is given."""
    numbers = np.frombuffer(vector.data, "<f4").astype(np.float64)
    other = np.random.default_rng(seed).normal(size=len(numbers))
    other -= other @ numbers * numbers
    other /= np.linalg.norm(other)
    made = common_pb2.Embedding()
    made.CopyFrom(vector)
    made.data = (cosine * numbers + (1 - cosine**2) ** 0.5 * other).astype("<f4").tobytes()
    return made


async def test_the_same_file_a_copy_and_another_image(match_mesh: MatchMesh) -> None:
    scenes = photographs()
    await match_mesh.ingest("shown", {f"p{number}": saved(scenes[number]) for number in range(3)}, p1={"artist": "A"})
    same, alike, other = await match_mesh.match(
        "shown", saved(scenes[0]), copy(scenes[1]), saved(scenes[4]), alternatives=1, candidates=3
    )
    assert (same.match.verdict, same.match.best.basis) == (MATCH, router_pb2.MATCH_BASIS_CONTENT_DIGEST)
    assert same.match.best.item.id == "p0"
    assert same.match.best.confidence == 1
    assert same.match.best.cosine == pytest.approx(1, abs=2e-3)
    assert len(same.match.alternatives) == 1
    assert (alike.match.verdict, alike.match.best.basis) == (MATCH, router_pb2.MATCH_BASIS_PERCEPTUAL_HASH)
    assert (alike.match.best.item.id, alike.match.best.item.metadata["artist"]) == ("p1", "A")
    assert 0 < alike.match.best.hash_distance <= 31
    assert other.match.verdict == NO_MATCH
    assert other.match.best.basis == router_pb2.MATCH_BASIS_VECTOR
    assert other.match.best.confidence < 0.01
    assert other.encode.total_us > 0
    assert other.store_us > 0


async def test_vectors_alone_need_a_margin(match_mesh: MatchMesh) -> None:
    asked = saved(photographs()[0])
    [vector] = await match_mesh.vectors([asked])
    far = beside(vector, 0.5)
    cases = {"near": [beside(vector, 0.985), far], "torn": [beside(vector, 0.975), beside(vector, 0.97, 2)]}
    found = {}
    for name, vectors in cases.items():
        await match_mesh.put(name, {f"v{place}": each for place, each in enumerate(vectors)})
        [result] = await match_mesh.match(name, asked)
        found[name] = result.match
    assert (found["near"].verdict, found["near"].best.item.id) == (MATCH, "v0")
    assert found["near"].best.basis == router_pb2.MATCH_BASIS_VECTOR
    assert not found["near"].best.HasField("hash_distance")
    assert found["torn"].verdict != MATCH
    assert found["torn"].best.item.id == "v0"


async def test_a_copy_beside_it_takes_no_margin_from_an_item(match_mesh: MatchMesh) -> None:
    asked = saved(photographs()[0])
    [vector] = await match_mesh.vectors([asked])
    vectors = {"a": beside(vector, 0.985), "b": beside(vector, 0.98, 2), "c": beside(vector, 0.5, 3)}
    names = {"a": "one", "b": "two", "c": "three"}
    # What is asked is within 31 bits of none: a part of the image, say.
    hashes = {"a": bytes(range(32)), "b": bytes([*range(31), 0]), "c": bytes([170] * 32)}
    await match_mesh.put("copies", vectors, hashes, **names)
    [copies] = await match_mesh.match("copies", asked, alternatives=1)
    assert (copies.match.verdict, copies.match.ambiguous, copies.match.best.item.id) == (MATCH, False, "a")
    assert copies.match.best.basis == router_pb2.MATCH_BASIS_VECTOR
    assert [each.item.id for each in copies.match.alternatives] == ["b"]
    # Under two names they contradict each other, though neither hash nor geometry says so.
    [named] = await match_mesh.match("copies", asked, entry_fields=["entry"])
    assert (named.match.verdict, named.match.ambiguous) == (UNSURE, True)
    # Another image that is as near says that the vector is not enough.
    await match_mesh.put("others", vectors, hashes | {"b": bytes([85] * 32)}, **names)
    [others] = await match_mesh.match("others", asked)
    assert (others.match.verdict, others.match.ambiguous) == (NO_MATCH, False)


async def test_views_of_one_entry_speak_for_it_together(match_mesh: MatchMesh) -> None:
    asked = saved(photographs()[0])
    [vector] = await match_mesh.vectors([asked])
    views = {f"a{number}": beside(vector, 0.98 - number / 1000, number) for number in range(8)}
    others = {f"b{number}": beside(vector, 0.6 - number / 1000, number) for number in range(4)}
    names = dict.fromkeys(views, "a") | dict.fromkeys(others, "b")
    await match_mesh.put("views", views | others, **names)
    [apart] = await match_mesh.match("views", asked, alternatives=3)
    assert apart.match.verdict != MATCH
    assert len(apart.match.alternatives) == 3
    # Each of three views of `a` is a candidate, and the other places are left to others.
    [joined] = await match_mesh.match("views", asked, entry_fields=["entry"], alternatives=3, candidates=4)
    assert (joined.match.verdict, joined.match.best.item.id) == (MATCH, "a0")
    assert joined.match.best.entry[0] == "a"
    assert [each.entry[0] for each in joined.match.alternatives] == ["b"]


async def test_the_same_image_under_two_entries_is_ambiguous(match_mesh: MatchMesh) -> None:
    scenes = photographs()
    stored = {"one": saved(scenes[0]), "two": saved(scenes[0]), "three": saved(scenes[1])}
    await match_mesh.ingest("twice", stored, one={"entry": 1}, two={"entry": 2}, three={"entry": 3})
    [named] = await match_mesh.match("twice", copy(scenes[0]), entry_fields=["entry"], alternatives=1)
    assert (named.match.verdict, named.match.ambiguous) == (UNSURE, True)
    assert {named.match.best.item.id, named.match.alternatives[0].item.id} == {"one", "two"}
    [copies] = await match_mesh.match("twice", copy(scenes[0]))
    assert (copies.match.verdict, copies.match.ambiguous) == (MATCH, False)
    # A field that nobody has: each item is an entry, of which two still match.
    [nobody] = await match_mesh.match("twice", copy(scenes[0]), entry_fields=["nobody.has"])
    assert nobody.match.ambiguous
    assert not nobody.match.best.HasField("entry")
    only = search_pb2.Filter(condition=search_pb2.Condition(field="entry"))
    only.condition.equals.number_value = 2
    [filtered] = await match_mesh.match("twice", copy(scenes[0]), entry_fields=["entry"], filter=only)
    assert (filtered.match.verdict, filtered.match.best.item.id) == (MATCH, "two")


async def test_a_bad_image_fails_alone_and_an_empty_collection_is_no_error(match_mesh: MatchMesh) -> None:
    await match_mesh.put("empty", {})
    good, bad, nothing = await match_mesh.match("empty", saved(photographs()[0]), b"no image", b"")
    assert (good.match.verdict, good.match.HasField("best")) == (NO_MATCH, False)
    assert from_status(bad.error).reason is Reason.IMAGE_UNDECODABLE
    assert [violation.field for violation in from_status(bad.error).violations] == ["images[1].content"]
    assert from_status(nothing.error).reason is Reason.IMAGE_EMPTY
    request = router_pb2.MatchImagesRequest(collection="empty", images=[common_pb2.Image()])
    [missing] = (await match_mesh.router.MatchImages(request)).results
    assert from_status(missing.error).reason is Reason.IMAGE_MISSING


@pytest.mark.parametrize("view", [search_pb2.ITEM_VIEW_BASIC, search_pb2.ITEM_VIEW_FULL])
async def test_items_come_back_as_asked_for(local_match_mesh: MatchMesh, view: Any) -> None:
    scene = saved(photographs()[0])
    await local_match_mesh.ingest("read", {"p": scene})
    read = search_pb2.ReadOptions(view=view, readable=True)
    [result] = await local_match_mesh.match("read", scene, read=read)
    item = result.match.best.item
    assert len(item.content_digest) == 32
    assert bool(item.vectors["image"].floats) == (view == search_pb2.ITEM_VIEW_FULL)
