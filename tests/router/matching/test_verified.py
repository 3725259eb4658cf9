"""Matches that are verified by geometry: cropped, turned and photographed copies, and images that are others."""

import sys

import numpy as np
import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.reasons import Reason
from lensmesh_shapes.facts import sample_scene
from lensmesh_shapes.scenes import draw
from router_svc.matching.opencv import opencv
from tests.router.conftest import Mesh
from tests.router.fakes import SPACE
from tests.router.helpers import error_of
from tests.router.matching.conftest import MatchMesh
from tests.router.matching.images import cropped, photographed, photographs, saved

MATCH, UNSURE, NO_MATCH = (
    router_pb2.MATCH_VERDICT_MATCH,
    router_pb2.MATCH_VERDICT_UNSURE,
    router_pb2.MATCH_VERDICT_NO_MATCH,
)
GEOMETRY = router_pb2.MATCH_BASIS_GEOMETRY


async def test_copies_that_are_cropped_or_photographed_and_another_image(match_mesh: MatchMesh) -> None:
    scenes = photographs()
    stored = {f"p{number}": saved(scenes[number]) for number in range(4)}
    await match_mesh.ingest("art", stored, featured=True, p2={"artist": "A"})
    part, seen, other, plain = await match_mesh.match(
        "art", cropped(scenes[1]), photographed(scenes[2]), saved(scenes[4]), saved(scenes[0].resize((8, 8)))
    )
    for result, item_id in ((part, "p1"), (seen, "p2")):
        best = result.match.best
        assert (result.match.verdict, best.basis, best.item.id) == (MATCH, GEOMETRY, item_id)
        assert best.geometry.inlier_count >= 20
        assert best.geometry.tentative_count >= best.geometry.inlier_count
        assert 30 < best.geometry.query_point_count <= 450
        assert result.verify_us > 0
    assert not part.match.best.item.HasField("local_features")
    homography = np.array(part.match.best.geometry.homography).reshape(3, 3)
    # The middle stays the middle, and the part is 0.7 of the whole.
    middle = homography @ [0.5, 0.375, 1]
    assert middle[:2] / middle[2] == pytest.approx([0.5, 0.375], abs=0.01)
    assert homography[0, 0] == pytest.approx(0.7, abs=0.03)
    assert (other.match.verdict, other.match.best.geometry.query_point_count > 30) == (NO_MATCH, True)
    assert other.match.best.confidence < 0.1
    assert plain.match.verdict == NO_MATCH


async def test_scenes_that_share_their_shapes_are_told_apart(local_match_mesh: MatchMesh) -> None:
    rng = np.random.default_rng(8)
    scenes = [draw(sample_scene(rng), 256) for _ in range(12)]
    await local_match_mesh.ingest(
        "scenes", {f"s{number}": saved(scene) for number, scene in enumerate(scenes[:8])}, featured=True
    )
    results = await local_match_mesh.match("scenes", *(cropped(scene, 0.85) for scene in scenes))
    found = [result.match.best.item.id for result in results[:8] if result.match.verdict == MATCH]
    assert set(found) <= {f"s{number}" for number in range(8)}
    right = [
        result.match.verdict == MATCH and result.match.best.item.id == f"s{number}"
        for number, result in enumerate(results[:8])
    ]
    assert sum(right) >= 6
    assert MATCH not in [result.match.verdict for result in results[8:]]


async def test_the_same_image_under_two_entries_is_ambiguous_by_geometry_too(match_mesh: MatchMesh) -> None:
    scenes = photographs()
    stored = {"a1": saved(scenes[0]), "a2": saved(scenes[0], "JPEG", quality=90), "b": saved(scenes[1])}
    await match_mesh.ingest("twice", stored, featured=True, a1={"entry": 1}, a2={"entry": 2}, b={"entry": 3})
    asked = cropped(scenes[0])
    [named] = await match_mesh.match("twice", asked, entry_fields=["entry"], alternatives=1)
    assert (named.match.verdict, named.match.ambiguous) == (UNSURE, True)
    assert [named.match.best.basis, named.match.alternatives[0].basis] == [GEOMETRY, GEOMETRY]
    assert {named.match.best.item.id, named.match.alternatives[0].item.id} == {"a1", "a2"}
    [copies] = await match_mesh.match("twice", asked)
    assert (copies.match.verdict, copies.match.ambiguous) == (MATCH, False)


async def test_the_view_that_is_shown_speaks_for_its_entry(local_match_mesh: MatchMesh) -> None:
    scenes = photographs()
    stored = {"front": saved(scenes[0]), "back": saved(scenes[1]), "other": saved(scenes[2])}
    metadata = {"front": {"entry": "thing"}, "back": {"entry": "thing"}, "other": {"entry": "another"}}
    await local_match_mesh.ingest("views", stored, featured=True, **metadata)
    [result] = await local_match_mesh.match("views", photographed(scenes[1]), entry_fields=["entry"], alternatives=1)
    assert (result.match.verdict, result.match.best.item.id) == (MATCH, "back")
    assert result.match.best.entry[0] == "thing"
    assert [each.entry[0] for each in result.match.alternatives] == ["another"]


async def test_items_without_features_are_judged_by_their_vectors(match_mesh: MatchMesh) -> None:
    scenes = photographs()
    await match_mesh.ingest("some", {"p0": saved(scenes[0])}, featured=True)
    asked = saved(scenes[1])
    bare = search_pb2.Item(id="bare")
    bare.vectors["image"].CopyFrom((await match_mesh.vectors([asked]))[0])
    await match_mesh.search.UpsertItems(search_pb2.UpsertItemsRequest(collection="some", items=[bare]))
    [result] = await match_mesh.match("some", asked)
    best = result.match.best
    assert (result.match.verdict, best.item.id, best.basis) == (MATCH, "bare", router_pb2.MATCH_BASIS_VECTOR)
    assert not best.HasField("geometry")
    # The same bytes need no geometry.
    [same] = await match_mesh.match("some", saved(scenes[0]))
    assert (same.match.verdict, same.match.best.basis) == (MATCH, router_pb2.MATCH_BASIS_CONTENT_DIGEST)


def featured(mesh: Mesh) -> router_pb2.MatchImagesRequest:
    """A collection of a fake store that keeps local features, and what is asked of it."""
    mesh.search.make("shown", ("image", SPACE))
    mesh.search.collections["shown"].local_features = True
    return router_pb2.MatchImagesRequest(collection="shown", images=[common_pb2.Image(content=b"a")])


async def test_an_encoder_that_makes_no_features_is_an_error_and_not_another_verdict(unstarted: Mesh) -> None:
    unstarted.encoder.feature_kind = common_pb2.LOCAL_FEATURE_KIND_UNSPECIFIED
    await unstarted.start()
    error = await error_of(unstarted.router.MatchImages(featured(unstarted)))
    assert error.reason is Reason.LOCAL_FEATURES_UNSUPPORTED
    assert unstarted.search.searches == []


async def test_a_router_without_opencv_says_what_to_install(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    request = featured(mesh)
    monkeypatch.setitem(sys.modules, "cv2", None)
    opencv.cache_clear()
    error = await error_of(mesh.router.MatchImages(request))
    opencv.cache_clear()
    assert error.reason is Reason.LOCAL_FEATURES_UNSUPPORTED
    assert "this router" in error.message
    assert "lensmesh[match]" in error.message
