"""The order in which candidates are looked at, and where it ends."""

import pytest
from google.protobuf import struct_pb2

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from router_svc.matching.candidates import CandidateItem
from router_svc.matching.geometry import Alignment
from router_svc.matching.image_work import ImageWork
from router_svc.matching.local_points import points_of
from router_svc.matching.looking import AT_ONCE, next_to_look_at
from router_svc.matching.options import MatchOptions, read_options

POINTS = points_of(
    common_pb2.LocalFeatures(kind=common_pb2.LOCAL_FEATURE_KIND_ORB, points=bytes(40), descriptors=bytes(320))
)


def options(alternatives: int = 0, *fields: str) -> MatchOptions:
    return read_options(router_pb2.MatchImagesRequest(entry_fields=fields, alternatives=alternatives), "shown")


def candidates(*cosines: float, entries: str = "") -> list[CandidateItem]:
    """Candidates of these cosines; the entry of each is a letter of `entries`, or none."""
    names = [struct_pb2.ListValue(values=[struct_pb2.Value(string_value=name)]) for name in entries]
    return [
        CandidateItem(f"c{place}", names[place] if names else None, cosine=cosine)
        for place, cosine in enumerate(cosines)
    ]


def looked(candidate: CandidateItem, inliers: int) -> None:
    candidate.is_looked_at = True
    candidate.alignment = Alignment(100, 100, inliers, inliers, inliers // 3)


def ids(work: ImageWork, given: MatchOptions) -> list[str]:
    return [candidate.item_id for candidate in next_to_look_at(work, given)]


def test_all_are_looked_at_some_at_a_time_while_none_fits() -> None:
    work = ImageWork(0, points=POINTS, candidates=candidates(*(0.9 - place / 100 for place in range(10))))
    seen: list[str] = []
    while found := next_to_look_at(work, options()):
        assert len(found) <= AT_ONCE
        for candidate in found:
            looked(candidate, 8)
        seen += [candidate.item_id for candidate in found]
    assert seen == [f"c{place}" for place in range(10)]


@pytest.mark.parametrize(("alternatives", "expected"), [(0, []), (2, ["c1", "c2"])])
def test_one_that_fits_ends_it_but_for_the_alternatives(alternatives: int, expected: list[str]) -> None:
    work = ImageWork(0, points=POINTS, candidates=candidates(0.9, 0.89, 0.5, 0.4))
    looked(work.candidates[0], 70)
    assert ids(work, options(alternatives)) == expected


def test_other_entries_that_are_as_near_are_looked_at_and_views_of_the_same_are_not() -> None:
    work = ImageWork(0, points=POINTS, candidates=candidates(0.9, 0.899, 0.89, 0.88, 0.7, entries="aabcd"))
    looked(work.candidates[0], 70)
    assert ids(work, options(0, "entry")) == ["c2", "c3"]
    work.candidates[4].hash_distance = 3
    assert ids(work, options(0, "entry")) == ["c2", "c3", "c4"]


def test_the_same_bytes_end_it_as_well() -> None:
    work = ImageWork(0, points=POINTS, candidates=candidates(0.9, 0.5))
    work.candidates[0].is_looked_at = work.candidates[0].same_bytes = True
    assert ids(work, options()) == []


def test_an_image_without_points_has_nothing_to_be_compared() -> None:
    assert next_to_look_at(ImageWork(0, candidates=candidates(0.9, 0.5)), options()) == []
