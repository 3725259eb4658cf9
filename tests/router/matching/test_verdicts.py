"""Verdicts of made-up candidates: what each kind of evidence is worth, and when two entries contradict each other."""

from statistics import fmean, pstdev
from typing import Any

import pytest
from google.protobuf import struct_pb2

from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from router_svc.matching.candidates import Basis, CandidateItem, candidates_of, learn
from router_svc.matching.confidence import geometry_confidence, hash_confidence, vector_confidence
from router_svc.matching.geometry import Alignment
from router_svc.matching.options import read_options
from router_svc.matching.verdicts import DEFAULT_MATCH, DEFAULT_UNSURE, Judgement, Thresholds, Verdict, judge

DEFAULTS = Thresholds(DEFAULT_MATCH, DEFAULT_UNSURE)


def item(item_id: str, entry: str = "", *, inliers: int | None = None, **fields: Any) -> CandidateItem:
    """A candidate. `inliers`: its features were compared."""
    values = struct_pb2.ListValue(values=[struct_pb2.Value(string_value=entry)]) if entry else None
    candidate = CandidateItem(item_id, values, **fields)
    if inliers is not None:
        candidate.alignment = aligned(inliers)
    return candidate


def aligned(inliers: int, others: int = 0) -> Alignment:
    """An alignment whose inliers are three at each place, with some more pairs."""
    return Alignment(450, 450, inliers + others, inliers, inliers // 3)


def hit(item_id: str, score: float, entry: str = "") -> search_pb2.Hit:
    group = struct_pb2.ListValue(values=[struct_pb2.Value(string_value=entry)]) if entry else None
    return search_pb2.Hit(item=search_pb2.Item(id=item_id), score=score, group=group)


def judged(*candidates: CandidateItem, low_content: bool = False, names_entries: bool = True) -> Judgement:
    return judge(candidates, DEFAULTS, low_content=low_content, names_entries=names_entries)


def test_confidences_grow_with_the_evidence_and_stay_within_0_and_1() -> None:
    series = [
        [geometry_confidence(aligned(count, 10)) for count in range(1_001)],
        [geometry_confidence(aligned(60, others)) for others in range(400, -1, -1)],
        [geometry_confidence(Alignment(450, 450, 60, 40, places)) for places in range(41)],
        [geometry_confidence(aligned(25, 20), z_score / 10) for z_score in range(-50, 100)],
        [hash_confidence(bits) for bits in range(256, -1, -1)],
        [vector_confidence(cosine / 1000, 0.5) for cosine in range(-1000, 1001)],
        [vector_confidence(0.97, other / 1000) for other in range(1000, -1001, -1)],
    ]
    for values in series:
        assert values == sorted(values)
        assert 0 <= values[0] <= values[-1] <= 1
    assert geometry_confidence(Alignment(450, 450, 100, 100, 5), 6.0) == 0
    # Half of the pairs agree: what docs/matching.md tells.
    for places, z_score in ((5, 5.0), (14, None), (48, 1.0)):
        less, enough = (Alignment(450, 450, 100, 50, each) for each in (places, places + 1))
        assert geometry_confidence(less, z_score) < DEFAULT_MATCH <= geometry_confidence(enough, z_score), places
    assert hash_confidence(30) < DEFAULT_MATCH <= hash_confidence(29)
    assert vector_confidence(1, -1) <= 0.95
    assert vector_confidence(0.97, None) == vector_confidence(0.97, 0.97)


def test_the_evidence_that_speaks_most_counts() -> None:
    both = judged(item("a", cosine=0.5, hash_distance=3, inliers=12))
    assert (both.verdict, both.entries[0].basis) == (Verdict.MATCH, Basis.PERCEPTUAL_HASH)
    seen = judged(item("a", cosine=0.5, hash_distance=30, inliers=60))
    assert (seen.verdict, seen.entries[0].basis) == (Verdict.MATCH, Basis.GEOMETRY)
    same = judged(item("a", cosine=0.1, same_bytes=True))
    assert (same.verdict, same.entries[0].basis, same.entries[0].confidence) == (Verdict.MATCH, Basis.CONTENT_DIGEST, 1)


@pytest.mark.parametrize(("inliers", "verdict"), [(None, Verdict.MATCH), (0, Verdict.UNSURE)])
def test_a_vector_alone_is_no_match_where_local_features_were_compared(inliers: int | None, verdict: Verdict) -> None:
    judgement = judged(item("a", cosine=0.999, inliers=inliers), item("b", cosine=0.5))
    assert (judgement.verdict, judgement.entries[0].basis) == (verdict, Basis.VECTOR)


def test_a_confidence_that_equals_a_threshold_reaches_it() -> None:
    request = router_pb2.MatchImagesRequest(thresholds=router_pb2.MatchThresholds(match=0.9, unsure=0.6))
    some = [item("a", cosine=0.999, inliers=0), item("b", cosine=0.5)]
    judgement = judge(some, read_options(request, "art").thresholds, low_content=False, names_entries=False)
    assert (judgement.verdict, judgement.entries[0].confidence) == (Verdict.UNSURE, 0.6)


def test_a_vector_of_one_colour_says_nothing() -> None:
    assert judged(item("a", cosine=1.0), low_content=True).entries[0].confidence == 0
    assert judged(item("a", cosine=1.0, hash_distance=2), low_content=True).verdict is Verdict.MATCH


def test_nothing_found_is_no_match() -> None:
    assert judged() == Judgement(Verdict.NO_MATCH, ())


@pytest.mark.parametrize(
    ("best", "other", "ambiguous"),
    [
        ({"inliers": 90}, {"inliers": 46}, True),
        ({"inliers": 90}, {"inliers": 45}, False),
        ({"inliers": 90}, {"hash_distance": 20}, False),
        ({"hash_distance": 2}, {"inliers": 30}, True),
        ({"hash_distance": 2}, {"hash_distance": 9}, True),
        ({"hash_distance": 2}, {"hash_distance": 10}, False),
        ({"same_bytes": True}, {"hash_distance": 0}, False),
        ({"same_bytes": True}, {"same_bytes": True}, True),
        ({"inliers": 90}, {"inliers": 18}, False),
    ],
)
def test_two_entries_contradict_each_other_unless_one_is_clearly_better(
    best: dict[str, Any], other: dict[str, Any], ambiguous: bool
) -> None:
    found = judged(item("a", "one", **best), item("b", "two", **other))
    assert (found.ambiguous, found.verdict) == (ambiguous, Verdict.UNSURE if ambiguous else Verdict.MATCH)
    # Views of one entry never do, and neither do copies where nobody says what an entry is.
    assert judged(item("a", "one", **best), item("b", "one", **other)).verdict is Verdict.MATCH
    assert judged(item("a", **best), item("b", **other), names_entries=False).verdict is Verdict.MATCH


def test_entries_come_best_first_each_by_its_best_view() -> None:
    found = judged(
        item("a1", "a", inliers=15, cosine=0.9),
        item("b1", "b", inliers=70, cosine=0.7),
        item("a2", "a", inliers=200, cosine=0.6),
        item("c", cosine=0.8, inliers=0),
        item("b2", "b", inliers=75, cosine=0.5),
    )
    assert [entry.view.item_id for entry in found.entries] == ["a2", "b2", "c"]
    equal = judged(item("y", hash_distance=4), item("x", hash_distance=4))
    assert [entry.view.item_id for entry in equal.entries] == ["x", "y"]


def test_the_margin_is_to_the_next_entry_and_not_to_another_view() -> None:
    views = [item("a1", "a", cosine=0.975), item("a2", "a", cosine=0.974)]
    assert judged(*views, item("b", "b", cosine=0.6)).verdict is Verdict.MATCH
    assert judged(*views, item("b", "b", cosine=0.97)).verdict is not Verdict.MATCH


def test_fewer_inliers_are_enough_where_the_vector_stands_out() -> None:
    others = [(f"o{place}", 0.6 + place / 100) for place in range(10)]
    for cosine, verdict in ((0.85, Verdict.MATCH), (0.74, Verdict.UNSURE), (0.65, Verdict.NO_MATCH)):
        hits = [hit("a", cosine), *(hit(name, other) for name, other in others)]
        candidates = candidates_of(hits, [], with_entries=False)
        for candidate in candidates:
            candidate.alignment = aligned(30, 30) if candidate.item_id == "a" else Alignment(450, 450, 60)
        found = judged(*candidates, names_entries=False)
        assert (found.verdict, found.entries[0].view.item_id) == (verdict, "a"), cosine


def test_a_vector_stands_out_among_other_entries_and_not_among_its_own_views() -> None:
    views = [hit(f"a{view}", 0.9 - view / 100, "a") for view in range(3)]
    others = [hit(f"o{place}", 0.6 + place / 100, f"o{place}") for place in range(5)]
    by_hash = [hit("far", 0.99, "far")]
    found = {each.item_id: each.z_score for each in candidates_of([*views, *others], by_hash, with_entries=True)}
    spread = pstdev([0.6, 0.61, 0.62, 0.63, 0.64]) + 0.003
    assert found["a0"] == pytest.approx((0.9 - 0.62) / spread)
    assert found["a2"] == pytest.approx((0.88 - 0.62) / spread)
    # What the vector did not find is farther away than all that it found.
    known = [0.9, 0.6, 0.61, 0.62, 0.63, 0.64]
    assert found["far"] == pytest.approx((0.6 - fmean(known)) / (pstdev(known) + 0.003))
    more = [*others, *(hit(f"p{place}", 0.5 - place / 100, f"p{place}") for place in range(30))]
    at_20, at_35 = (candidates_of([*views, *some], [], with_entries=True)[0] for some in (more[:20], more))
    assert at_20.z_score == at_35.z_score
    few = candidates_of([*views, *others[:4]], [], with_entries=True)
    assert all(each.z_score is None for each in few if each.item_id.startswith("a"))


def looks(*hashes: int, digest: bytes = b"", quality: int = 90) -> search_pb2.Item:
    """An item whose image looks like this: a hash, and that of what a frame surrounds."""
    made = search_pb2.Item(content_digest=digest)
    made.perceptual_hash.quality = quality
    hash_, *unframed = (each.to_bytes(32, "big") for each in hashes)
    made.perceptual_hash.hash, made.perceptual_hash.unframed = hash_, b"".join(unframed)
    return made


def test_copies_say_nothing_against_one_another() -> None:
    others = [hit(f"o{place}", 0.6 + place / 100) for place in range(6)]
    copies = [hit(f"a{place:02}", 0.9) for place in range(30)]
    alone, among = (candidates_of([*some, *others], [], with_entries=False) for some in (copies[:1], copies))
    assert among[0].z_score == pytest.approx(0)
    stored = {
        each.item_id: looks(place if place < 30 else (1 << 40 * (place - 29)) - 1) for place, each in enumerate(among)
    }
    # They are read some at a time.
    for begin in range(0, 36, 4):
        learn(among, {each.item_id: stored[each.item_id] for each in among[begin : begin + 4]}, b"")
    assert {each.copy_of for each in among[1:30]} == {"a00"}
    assert {each.image_key for each in among} == {"a00", *(other.item.id for other in others)}
    assert {each.z_score for each in among[:30]} == {alone[0].z_score}
    # They are one image for all that are none of them, as well.
    assert [each.z_score for each in among[30:]] == [each.z_score for each in alone[1:]]


@pytest.mark.parametrize(
    ("one", "other", "are_copies"),
    [
        (looks(0), looks((1 << 31) - 1), True),
        (looks(0), looks((1 << 32) - 1), False),
        (looks(0), looks((1 << 200) - 1, 1), True),
        (looks(0, quality=49), looks(0), False),
        (looks(0, digest=b"d"), looks((1 << 200) - 1, digest=b"d"), True),
        (search_pb2.Item(), search_pb2.Item(), False),
    ],
)
def test_copies_are_of_one_file_or_within_31_bits(
    one: search_pb2.Item, other: search_pb2.Item, are_copies: bool
) -> None:
    some = [item("a", cosine=0.98), item("b", cosine=0.98), item("c", cosine=0.5)]
    learn(some, {"a": one, "b": other}, b"asked")
    assert (some[0].image_key == some[1].image_key) == are_copies
    assert (judged(*some, names_entries=False).verdict is Verdict.MATCH) == are_copies
    # As entries they contradict each other.
    assert judged(*some).ambiguous == are_copies
