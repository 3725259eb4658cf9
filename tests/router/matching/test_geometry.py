"""Geometry of made-up points: what is found whatever lies beside it, and what is no photograph of the same thing."""

import numpy as np
import pytest

from lensmesh.common.v1 import common_pb2
from router_svc.matching.confidence import geometry_confidence
from router_svc.matching.geometry import Alignment, align
from router_svc.matching.local_points import MOST_POINTS, alike, points_of
from tests.router.matching.points import ORB, ROOTSIFT, WIDTHS, features, points, scattered, turned


@pytest.mark.parametrize("kind", [ORB, ROOTSIFT])
def test_a_turned_and_scaled_image_among_strange_points(kind: common_pb2.LocalFeatureKind.ValueType) -> None:
    places, descriptors = scattered(100, width=WIDTHS[kind])
    strange, others = scattered(200, 2, WIDTHS[kind])
    query = points(turned(places), descriptors, kind)
    item = points(np.vstack([strange, places]), np.vstack([others, descriptors]), kind)
    found = align(query, item)
    assert (found.query_point_count, found.item_point_count) == (100, 300)
    assert found.tentative_count == 100
    assert 85 <= found.inlier_count <= 100
    corner = np.array(found.homography).reshape(3, 3) @ [*turned(np.array([[0.3, 0.6]]))[0], 1]
    assert corner[:2] / corner[2] == pytest.approx([0.3, 0.6], abs=1e-3)
    assert found.homography[8] == pytest.approx(1)
    pairs = np.array(found.pairs).reshape(-1, 4)
    assert len(pairs) == 64
    assert turned(pairs[:, 2:]) == pytest.approx(pairs[:, :2], abs=0.015)
    assert geometry_confidence(found) > 0.99
    assert align(query, item) == found


def test_a_perspective_is_found_and_half_of_the_pairs_may_be_wrong() -> None:
    places, descriptors = scattered(120)
    tilt = np.array([[0.9, 0.1, 0.02], [-0.05, 0.8, 0.1], [0.2, -0.1, 1]])
    lengthened = np.column_stack([places, np.ones(120)]) @ tilt.T
    seen = lengthened[:, :2] / lengthened[:, 2:]
    seen[::2] = np.random.default_rng(3).uniform(0, 0.9, (60, 2))
    found = align(points(seen, descriptors), points(places, descriptors))
    assert found.tentative_count == 120
    assert 50 <= found.inlier_count <= 66


def test_other_images_have_nothing_in_common() -> None:
    unlike = [align(points(*scattered(450, seed)), points(*scattered(450, seed + 100))) for seed in range(20)]
    assert max(geometry_confidence(each) for each in unlike) < 0.2
    # Pairs that are alike and lie anywhere.
    _, descriptors = scattered(200)
    chance = [
        align(points(scattered(200, seed)[0], descriptors), points(scattered(200, seed + 100)[0], descriptors))
        for seed in range(20)
    ]
    assert max(geometry_confidence(each) for each in chance) < 0.2


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda places: places * [-1, 1] + [1, 0], "mirrored"),
        (lambda places: (places - 0.5) * 0.1 + 0.5, "tiny"),
        (lambda places: (places - 0.5) * [1, 0.1] + 0.5, "pressed together"),
        (lambda places: places * 0 + 0.5, "one point"),
        (lambda places: places * [1, 0] + [0, 0.5], "on a line"),
        (lambda places: np.column_stack([places[:, 0], places[:, 0]]), "on a diagonal"),
    ],
)
def test_what_no_photograph_does_counts_nothing(change: object, name: str) -> None:
    assert callable(change)
    places, descriptors = scattered(100)
    query = points(places, descriptors)
    for found in (
        align(points(change(places), descriptors), query),
        align(query, points(change(places), descriptors)),
        align(points(change(places), descriptors), points(change(places), descriptors))
        if name in ("one point", "on a line", "on a diagonal")
        else Alignment(0, 0),
    ):
        assert (found.inlier_count, found.place_count, found.homography, found.pairs) == (0, 0, (), ()), name


def test_one_place_counts_once_however_many_points_it_has() -> None:
    rng = np.random.default_rng(4)
    corners = np.array([(0.225 + 0.15 * across, 0.225 + 0.4 * down) for across in range(4) for down in range(2)])
    places = np.repeat(corners, 30, axis=0) + rng.uniform(-0.002, 0.002, (240, 2))
    descriptors = scattered(240)[1]
    found = align(points(turned(places, 5, 1), descriptors), points(places, descriptors))
    assert (found.tentative_count, found.inlier_count) == (240, 240)
    # In the turned image some lie on the edge of two places: the one with fewer counts.
    assert found.place_count == 8


def test_equal_descriptors_are_like_nothing() -> None:
    places, _ = scattered(1_000)
    same = points(places, np.full((1_000, 32), 7, np.uint8))
    assert len(alike(same, same)[0]) == 0
    assert align(same, same) == Alignment(1_000, 1_000)


@pytest.mark.parametrize(("different_bits", "pairs"), [(64, 50), (65, 0)])
def test_points_that_differ_in_more_than_a_quarter_of_their_bits_are_no_pairs(different_bits: int, pairs: int) -> None:
    places, descriptors = scattered(50)
    mask = np.packbits(np.arange(256) < different_bits)
    assert len(alike(points(places, descriptors ^ mask), points(places, descriptors))[0]) == pairs


def test_a_point_of_the_item_is_paired_once() -> None:
    places, descriptors = scattered(50)
    query = points(np.vstack([places, places + 0.1]), np.vstack([descriptors, descriptors]))
    ours, theirs = alike(query, points(places, descriptors))
    assert sorted(theirs.tolist()) == list(range(50))
    assert ours.tolist() == list(range(50))


@pytest.mark.parametrize("counts", [(0, 0), (0, 50), (50, 0), (1, 50), (50, 1), (3, 3), (5, 1_000)])
def test_few_points_are_no_match(counts: tuple[int, int]) -> None:
    places, descriptors = scattered(1_000)
    ours, theirs = (points(places[:count], descriptors[:count]) for count in counts)
    assert align(ours, theirs).inlier_count == 0


def test_kinds_are_never_compared() -> None:
    places, descriptors = scattered(50, width=128)
    orb = points(places, descriptors[:, :32].copy())
    assert align(orb, points(places, descriptors, ROOTSIFT)).tentative_count == 0


@pytest.mark.parametrize("kind", [ORB, ROOTSIFT])
def test_a_thousand_points_each(kind: common_pb2.LocalFeatureKind.ValueType) -> None:
    places, descriptors = scattered(MOST_POINTS, width=WIDTHS[kind])
    found = align(points(turned(places), descriptors, kind), points(places, descriptors, kind))
    assert found.tentative_count == MOST_POINTS
    assert found.inlier_count > 500


def test_lengths_and_kinds_that_the_contract_has_not_are_no_points() -> None:
    places, descriptors = scattered(10)
    good = features(places, descriptors)
    assert len(points_of(common_pb2.LocalFeatures(kind=ORB)) or ()) == 0
    for change in (
        {"kind": common_pb2.LOCAL_FEATURE_KIND_UNSPECIFIED},
        {"kind": 99},
        {"kind": ROOTSIFT},
        {"points": good.points[:-1]},
        {"points": good.points[:-4]},
        {"descriptors": good.descriptors + b"x"},
        {"points": bytes(4 * 1_001), "descriptors": bytes(32 * 1_001)},
    ):
        bad = common_pb2.LocalFeatures()
        bad.CopyFrom(good)
        for name, value in change.items():
            setattr(bad, name, value)
        assert points_of(bad) is None
