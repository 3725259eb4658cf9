"""Searches by several legs, groups and diversity, as callers write them."""

from typing import Any

import grpc
import pytest

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from tests.search.support import Stub, create, embedding, item, refused, search_request, upsert

INVALID = grpc.StatusCode.INVALID_ARGUMENT
# The first of one leg, and the third of the other.
BOTH = 1 / 61 + 1 / 63
NAN, INF = float("nan"), float("inf")


def legs(*weights: float, **fields: Any) -> search_pb2.SearchRequest:
    """A search by legs of these weights, towards one axis after the other, named a, b, c."""
    request = search_pb2.SearchRequest(collection="pictures", **fields)
    for place, weight in enumerate(weights):
        axis = [float(place % 4 == i) for i in range(4)]
        request.legs.add(name="abcdefghi"[place], weight=weight).embedding.CopyFrom(embedding(axis))
    return request


def fusion(**fields: Any) -> search_pb2.Fusion:
    return search_pb2.Fusion(**fields)


def groups(*fields: str, size: int = 0) -> search_pb2.GroupBy:
    return search_pb2.GroupBy(fields=fields, size=size)


def diversity(**fields: Any) -> search_pb2.Diversity:
    return search_pb2.Diversity(**fields)


@pytest.fixture
async def filled(stub: Stub) -> Stub:
    """Items along axes and between them."""
    await create(stub)
    await upsert(
        stub,
        item("x", [1, 0, 0, 0], {"k": 1}),
        item("y", [0, 1, 0, 0], {"k": 1}),
        item("xy", [1, 1, 0, 0], {"k": 2}),
        item("z", [0, 0, 1, 0], {"k": ["a", 1]}),
        item("bare"),
    )
    return stub


BAD: dict[str, tuple[search_pb2.SearchRequest, Reason, str]] = {
    "nine legs": (legs(*[1] * 9), Reason.QUERY_INVALID, "legs"),
    "no legs": (legs(), Reason.QUERY_INVALID, "legs"),
    "NaN": (legs(1, NAN), Reason.QUERY_INVALID, "legs[1].weight"),
    "infinite": (legs(INF, 1), Reason.QUERY_INVALID, "legs[0].weight"),
    "less than infinite": (legs(1, -INF), Reason.QUERY_INVALID, "legs[1].weight"),
    "too heavy": (legs(1, 1_000_001), Reason.QUERY_INVALID, "legs[1].weight"),
    "only away": (legs(-1, -2), Reason.QUERY_INVALID, "legs[0].weight"),
    "one leg, away": (legs(-1), Reason.QUERY_INVALID, "legs[0].weight"),
    "unknown method": (legs(1, 1, fusion=fusion(method=9)), Reason.OPTION_INVALID, "fusion.method"),
    "absurd k": (legs(1, 1, fusion=fusion(rrf_k=10_001)), Reason.OPTION_INVALID, "fusion.rrf_k"),
    "k without ranks": (
        legs(1, 1, fusion=fusion(method=search_pb2.FUSION_METHOD_WEIGHTED, rrf_k=60)),
        Reason.OPTION_INVALID,
        "fusion.rrf_k",
    ),
    "no field": (legs(1, group_by=groups()), Reason.QUERY_INVALID, "group_by.fields"),
    "five fields": (legs(1, group_by=groups(*"abcde")), Reason.QUERY_INVALID, "group_by.fields"),
    "a field twice": (legs(1, group_by=groups("k", "a", "k")), Reason.QUERY_INVALID, "group_by.fields[2]"),
    "an empty level": (legs(1, group_by=groups("a..b")), Reason.QUERY_INVALID, "group_by.fields[0]"),
    "an own field": (legs(1, group_by=groups("k", "$id")), Reason.QUERY_INVALID, "group_by.fields[1]"),
    "no own field": (legs(1, group_by=groups("$k")), Reason.QUERY_INVALID, "group_by.fields[0]"),
    "large groups": (legs(1, group_by=groups("k", size=101)), Reason.LIMIT_OUT_OF_RANGE, "group_by.size"),
    "too strong": (legs(1, diversity=diversity(strength=1.01)), Reason.OPTION_INVALID, "diversity.strength"),
    "too weak": (legs(1, diversity=diversity(strength=-0.1)), Reason.OPTION_INVALID, "diversity.strength"),
    "strength NaN": (legs(1, diversity=diversity(strength=NAN)), Reason.OPTION_INVALID, "diversity.strength"),
    "too many": (legs(1, diversity=diversity(candidates=1_001)), Reason.OPTION_INVALID, "diversity.candidates"),
    "limit": (legs(1, 1, limit=1_001), Reason.LIMIT_OUT_OF_RANGE, "limit"),
    "offset with groups": (legs(1, group_by=groups("k"), offset=10_001), Reason.LIMIT_OUT_OF_RANGE, "offset"),
}


async def test_bad_requests_are_refused_by_name(filled: Stub) -> None:
    for name, (request, reason, field) in BAD.items():
        error = await refused(filled.Search(request), INVALID, reason, field)
        assert field in error.message, name


async def test_each_leg_has_a_name_of_its_own(filled: Stub) -> None:
    for names in (("a", "b", "a"), ("", "b", "")):
        request = legs(1, 1, 1)
        for one, name in zip(request.legs, names, strict=True):
            one.name = name
        await refused(filled.Search(request), INVALID, Reason.QUERY_INVALID, "legs[2].name")
    request = legs(1)
    request.legs[0].name = "n" * 257
    await refused(filled.Search(request), INVALID, Reason.QUERY_INVALID, "legs[0].name")
    # One of several may have the empty one.
    request = legs(1, 1)
    request.legs[0].name = ""
    assert [leg.name for leg in (await filled.Search(request)).hits[0].legs] == ["", "b"]


async def test_what_legs_said_comes_with_each_hit(filled: Stub) -> None:
    answer = await filled.Search(legs(1, 0, limit=3))
    assert [hit.item.id for hit in answer.hits] == ["x", "y", "xy"]
    assert answer.hits[0].score == pytest.approx(BOTH)
    assert [(leg.name, leg.rank) for leg in answer.hits[0].legs] == [("a", 1), ("b", 3)]
    assert [leg.score for leg in answer.hits[0].legs] == [pytest.approx(1, abs=1e-3), pytest.approx(0, abs=1e-3)]
    least = await filled.Search(legs(1, 1, min_score=2 / 62 - 1e-4))
    assert [hit.item.id for hit in least.hits] == ["x", "y", "xy"]
    away = await filled.Search(legs(1, -1, limit=4))
    assert [hit.item.id for hit in away.hits] == ["x", "xy", "z", "y"]


async def test_nothing_is_found_where_nothing_is(stub: Stub) -> None:
    await create(stub)
    for request in (legs(1, 1), legs(1, -1), legs(1, group_by=groups("k")), legs(1, diversity=diversity())):
        request.tuning.hnsw_ef = 1
        answer = await stub.Search(request)
        assert not answer.hits
        assert not answer.failed_legs


async def test_no_weights_at_all_count_alike(filled: Stub) -> None:
    for request in (legs(0, 0), legs(1, 1), legs(-0.0, 1)):
        assert (await filled.Search(request)).hits[0].score == pytest.approx(BOTH)


async def test_fusion_with_one_leg_makes_its_score_the_fused_one(filled: Stub) -> None:
    [hit] = (await filled.Search(legs(3, limit=1, fusion=fusion(rrf_k=9)))).hits
    assert hit.item.id == "x"
    assert hit.score == pytest.approx(3 / 10)
    assert hit.legs[0].score == pytest.approx(1, abs=1e-3)


async def test_groups_and_diversity_come_together(filled: Stub) -> None:
    request = legs(1, group_by=groups("k"), diversity=diversity(strength=0.8))
    request.tuning.exact = True
    answer = await filled.Search(request)
    assert [hit.item.id for hit in answer.hits] == ["x", "z", "xy"]
    assert list(answer.hits[0].group) == [1]
    assert [hit.legs[0].rank for hit in answer.hits] == [1, 4, 2]


async def test_a_leg_that_cannot_answer_is_named(filled: Stub) -> None:
    request = legs(1)
    request.legs.add(name="like", item_id="bare")
    await refused(
        filled.Search(request),
        grpc.StatusCode.FAILED_PRECONDITION,
        Reason.ITEM_WITHOUT_VECTOR,
        "legs[1].item_id",
    )
    request.partial = True
    alone = search_request(near="bare", partial=True)
    batch = search_pb2.BatchSearchRequest(searches=[request, alone, legs(1, 1)])
    first, second, third = (await filled.BatchSearch(batch)).results
    for answer in (await filled.Search(request), first.response):
        [failed] = answer.failed_legs
        assert (failed.name, from_status(failed.error).reason) == ("like", Reason.ITEM_WITHOUT_VECTOR)
        assert answer.hits[0].item.id == "x"
    assert from_status(second.error).reason is Reason.ITEM_WITHOUT_VECTOR
    assert not third.response.failed_legs
    request.legs[1].item_id = "nobody"
    await refused(filled.Search(request), grpc.StatusCode.NOT_FOUND, Reason.ITEM_NOT_FOUND, "legs[1].item_id")
