"""Search: what is near, how near, in which order, and how many."""

from typing import Any

import grpc
import numpy as np
import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from tests.search.conftest import Serve
from tests.search.support import (
    OTHER_SPACE_ID,
    SPACE_ID,
    Stub,
    collection,
    create,
    embedding,
    found,
    item,
    named_space,
    refused,
    search_request,
    upsert,
    where,
)

INVALID = grpc.StatusCode.INVALID_ARGUMENT
EXACT = search_pb2.SearchTuning(exact=True)


def compass(*names: str) -> list[search_pb2.Item]:
    """Items at 0, 10, 20 ... degrees."""
    turns = np.deg2rad(10 * np.arange(len(names)))
    return [
        item(name, [np.cos(turn), np.sin(turn), 0, 0], {"n": i})
        for i, (name, turn) in enumerate(zip(names, turns, strict=True))
    ]


@pytest.mark.parametrize("tuning", [None, EXACT, search_pb2.SearchTuning(hnsw_ef=1)])
@pytest.mark.parametrize("flat", [False, True])
async def test_scores_are_cosines_best_first(stub: Stub, tuning: search_pb2.SearchTuning | None, flat: bool) -> None:
    space = named_space(flat=flat, stored_as=common_pb2.DATA_TYPE_FLOAT32)
    await create(stub, collection("pictures", space))
    await upsert(stub, *compass("c", "b", "a"), item("opposite", [-1, 0, 0, 0]), item("none"))
    request = search_request([5, 0, 0, 0], tuning=tuning)
    request.legs[0].name = "query"
    hits = (await stub.Search(request)).hits
    assert [hit.item.id for hit in hits] == ["c", "b", "a", "opposite"]
    expected = [1, np.cos(np.deg2rad(10)), np.cos(np.deg2rad(20)), -1]
    np.testing.assert_allclose([hit.score for hit in hits], expected, atol=1e-6)
    assert [(leg.name, leg.score, leg.rank) for hit in hits for leg in hit.legs] == [
        ("query", hit.score, rank) for rank, hit in enumerate(hits, start=1)
    ]


async def test_offset_limit_and_least_score(stub: Stub) -> None:
    await create(stub)
    names = [f"{i}" for i in range(10)]
    await upsert(stub, *compass(*names))
    vector = [1, 0, 0, 0]
    for tuning in (None, EXACT):
        assert await found(stub, search_request(vector, tuning=tuning)) == names
        assert await found(stub, search_request(vector, limit=3, tuning=tuning)) == names[:3]
        assert await found(stub, search_request(vector, limit=3, offset=4, tuning=tuning)) == names[4:7]
        assert await found(stub, search_request(vector, offset=10, tuning=tuning)) == []
        assert await found(stub, search_request(vector, min_score=0.9, tuning=tuning)) == names[:3]
        assert await found(stub, search_request(vector, min_score=0.9, offset=2, tuning=tuning)) == names[2:3]
        assert await found(stub, search_request(vector, min_score=2, tuning=tuning)) == []
    response = await stub.Search(search_request(vector, limit=3, offset=4))
    assert [hit.legs[0].rank for hit in response.hits] == [5, 6, 7]


async def test_equal_scores_come_by_id(stub: Stub) -> None:
    await create(stub)
    names = ["b", "a", "é", "Z", "10", "9"]
    await upsert(stub, *(item(name, [1, 1, 0, 0]) for name in names))
    expected = sorted(names, key=str.encode)
    for tuning in (None, EXACT):
        assert await found(stub, search_request([1, 0, 0, 0], tuning=tuning)) == expected


async def test_near_an_item(stub: Stub) -> None:
    await create(stub, collection("pictures", named_space(), named_space("caption")))
    await upsert(stub, *compass("a", "b", "c"), item("bare"))
    for tuning in (None, EXACT):
        assert await found(stub, search_request(near="b", tuning=tuning, limit=2)) == ["a", "c"]
        assert await found(stub, search_request(near="b", tuning=tuning, filter=where("n", equals=2))) == ["c"]
    await refused(
        stub.Search(search_request(near="no")), grpc.StatusCode.NOT_FOUND, Reason.ITEM_NOT_FOUND, "legs[0].item_id"
    )
    unfit = (grpc.StatusCode.FAILED_PRECONDITION, Reason.ITEM_WITHOUT_VECTOR, "legs[0].item_id")
    await refused(stub.Search(search_request(near="bare")), *unfit)
    other = search_request(near="a")
    other.legs[0].space = "caption"
    await refused(stub.Search(other), *unfit)


async def test_spaces_by_name(stub: Stub) -> None:
    await create(
        stub, collection("pictures", named_space("first"), named_space("second", 2, space={"id": OTHER_SPACE_ID}))
    )
    one = item("a")
    one.vectors["second"].CopyFrom(embedding([1, 0], OTHER_SPACE_ID))
    await upsert(stub, one)
    request = search_request()
    request.legs[0].space = "second"
    request.legs[0].embedding.CopyFrom(embedding([1, 0], OTHER_SPACE_ID))
    assert await found(stub, request) == ["a"]
    assert await found(stub, search_request([1, 0, 0, 0])) == []


def leg(**fields: Any) -> search_pb2.SearchRequest:
    return search_pb2.SearchRequest(collection="pictures", legs=[search_pb2.SearchLeg(**fields)])


async def test_bad_searches(stub: Stub) -> None:
    await create(stub)
    good: Any = {"embedding": embedding([1, 0, 0, 0])}
    same = common_pb2.PerceptualHash(hash=bytes(32), quality=90)
    cases = [
        (search_pb2.SearchRequest(collection="pictures"), Reason.QUERY_INVALID, "legs"),
        (
            search_pb2.SearchRequest(collection="pictures", legs=[search_pb2.SearchLeg()] * 9),
            Reason.QUERY_INVALID,
            "legs",
        ),
        (leg(), Reason.QUERY_INVALID, "legs[0]"),
        (leg(weight=-1, **good), Reason.QUERY_INVALID, "legs[0].weight"),
        (leg(weight=float("nan"), **good), Reason.QUERY_INVALID, "legs[0].weight"),
        (leg(space="no", **good), Reason.SPACE_UNKNOWN, "legs[0].space"),
        (leg(space="no", caption_text="a"), Reason.SPACE_UNKNOWN, "legs[0].space"),
        (leg(space="no", perceptual_hash=same), Reason.SPACE_UNKNOWN, "legs[0].space"),
        (leg(modality=common_pb2.MODALITY_TEXT, caption_text="a"), Reason.QUERY_INVALID, "legs[0].modality"),
        (leg(modality=9, item_id="a"), Reason.QUERY_INVALID, "legs[0].modality"),
        (leg(modality=9, perceptual_hash=same), Reason.QUERY_INVALID, "legs[0].modality"),
        (leg(modality=9, **good), Reason.OPTION_INVALID, "legs[0].modality"),
        (leg(item_id="a\x00"), Reason.ITEM_ID_INVALID, "legs[0].item_id"),
        (leg(embedding=embedding([0, 0, 0, 0])), Reason.VECTOR_INVALID, "legs[0].embedding"),
        (leg(embedding=embedding([1, float("nan"), 0, 0])), Reason.VECTOR_INVALID, "legs[0].embedding"),
        (leg(embedding=embedding([1, 0])), Reason.VECTOR_DIMENSION_MISMATCH, "legs[0].embedding"),
        (leg(embedding=common_pb2.Embedding(space_id=SPACE_ID)), Reason.VECTOR_INVALID, "legs[0].embedding"),
        (search_request([1, 0, 0, 0], limit=1_001), Reason.LIMIT_OUT_OF_RANGE, "limit"),
        (search_request([1, 0, 0, 0], offset=10_001), Reason.LIMIT_OUT_OF_RANGE, "offset"),
        (search_request([1, 0, 0, 0], min_score=float("nan")), Reason.QUERY_INVALID, "min_score"),
        (
            search_request([1, 0, 0, 0], tuning=search_pb2.SearchTuning(hnsw_ef=1_001)),
            Reason.OPTION_INVALID,
            "tuning.hnsw_ef",
        ),
        (search_request([1, 0, 0, 0], filter=search_pb2.Filter()), Reason.FILTER_INVALID, "filter"),
    ]
    for request, reason, field in cases:
        await refused(stub.Search(request), INVALID, reason, field)
    error = await refused(
        stub.Search(leg(embedding=embedding([1, 0, 0, 0], OTHER_SPACE_ID))),
        grpc.StatusCode.FAILED_PRECONDITION,
        Reason.SPACE_MISMATCH,
        "legs[0].embedding.space_id",
    )
    assert SPACE_ID in error.message
    assert OTHER_SPACE_ID in error.message


async def test_a_batch_fails_one_by_one(stub: Stub) -> None:
    await create(stub)
    await upsert(stub, *compass("a", "b"))
    searches = [
        search_request([1, 0, 0, 0]),
        leg(),
        search_request([1, 0, 0, 0], collection="no"),
        search_request([0, 1, 0, 0], limit=1),
        search_request([1, 0, 0, 0], offset=5),
    ]
    results = (await stub.BatchSearch(search_pb2.BatchSearchRequest(searches=searches))).results
    assert [result.WhichOneof("outcome") for result in results] == [
        "response",
        "error",
        "error",
        "response",
        "response",
    ]
    assert [hit.item.id for hit in results[0].response.hits] == ["a", "b"]
    assert [hit.item.id for hit in results[3].response.hits] == ["b"]
    assert [from_status(result.error).reason for result in results[1:3]] == [
        Reason.QUERY_INVALID,
        Reason.COLLECTION_NOT_FOUND,
    ]
    await refused(stub.BatchSearch(search_pb2.BatchSearchRequest()), INVALID, Reason.NO_ITEMS, "searches")


async def test_an_answer_too_large_says_which_limit_fits(stub: Stub, serve: Serve) -> None:
    await create(stub)
    await upsert(stub, *(item(f"{i:03}", [1, i, 0, 0], {"x": "y" * 1_000}) for i in range(100)))
    async with serve(max_message_bytes=65_536) as (small, _):
        error = await refused(
            small.Search(search_request([1, 0, 0, 0], limit=100)), INVALID, Reason.RESPONSE_TOO_LARGE, "limit"
        )
        fits = int(error.metadata["fits"])
        assert fits > 10
        assert f"limit {fits} would fit" in error.message
        assert len(await found(small, search_request([1, 0, 0, 0], limit=fits))) == fits
        batch = search_pb2.BatchSearchRequest(searches=[search_request([1, 0, 0, 0], limit=50)] * 3)
        error = await refused(small.BatchSearch(batch), INVALID, Reason.RESPONSE_TOO_LARGE, "limit")
        fits = int(error.metadata["fits"])
        batch = search_pb2.BatchSearchRequest(searches=[search_request([1, 0, 0, 0], limit=fits)] * 3)
        assert [len(result.response.hits) for result in (await small.BatchSearch(batch)).results] == [fits] * 3
        lots = search_pb2.BatchSearchRequest(searches=[search_request([1, 0, 0, 0])] * 700)
        error = await refused(small.BatchSearch(lots), INVALID, Reason.RESPONSE_TOO_LARGE, "limit")
        assert "fewer searches" in error.message


async def test_the_index_finds_the_nearest_and_filters_lose_nothing(stub: Stub) -> None:
    dimension, count = 32, 5_000
    random = np.random.default_rng(7)
    # Clustered, as images are.
    centres = random.standard_normal((50, dimension))
    vectors = centres[random.integers(0, 50, count)] + 0.5 * random.standard_normal((count, dimension))
    await create(stub, collection("pictures", named_space(dimension=dimension)))
    for begin in range(0, count, 1_000):
        some = range(begin, begin + 1_000)
        await upsert(stub, *(item(f"{i:04}", vectors[i], {"n": i % 500, "half": i % 2}) for i in some))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def truth(query: int, mask: Any, size: int) -> list[str]:
        scores = np.where(mask, units @ units[query], -2)
        return [f"{i:04}" for i in np.argsort(-scores)[: min(size, int(mask.sum()))]]

    everything = np.ones(count, bool)
    shared = total = 0
    for query in range(0, count, 250):
        got = await found(stub, search_request(vectors[query]))
        exact = await found(stub, search_request(vectors[query], tuning=EXACT))
        assert len(got) == len(exact) == 10
        shared += len(set(got) & set(exact))
        total += len(exact)
        # Stored as float16, two that are as good as equal may change places.
        assert len(set(exact) & set(truth(query, everything, 10))) >= 9
    assert shared / total >= 0.95
    # One item in 500: what a plain index scan loses first.
    few = np.arange(count) % 500 == 123
    for query in range(0, count, 1_000):
        request = search_request(vectors[query], limit=100, filter=where("n", equals=123))
        assert sorted(await found(stub, request)) == sorted(truth(query, few, 100))
    # More than the index looks at in one go, and more than there are.
    for limit, offset, expected in ((1_000, 1_500, 1_000), (1_000, 2_000, 500), (1_000, 10_000, 0)):
        request = search_request(vectors[0], limit=limit, offset=offset, filter=where("half", equals=1))
        assert len(await found(stub, request)) == expected
    # One after the other: answers as large as these share one room, and wait for it only so long.
    pages = [await found(stub, search_request(vectors[0], limit=1_000, offset=1_000 * i)) for i in range(5)]
    assert len({name for page in pages for name in page}) >= 0.99 * count


async def test_words_alone_find_what_an_item_pushes_away(stub: Stub) -> None:
    """No leg finds anything by its vector, with and without groups that are full."""
    await create(stub)
    caption = common_pb2.Caption(text="red")
    items = [item(f"i{i}", [1.0, i, 0, 0], metadata={"k": i % 2}) for i in range(6)]
    for each in items:
        each.caption.CopyFrom(caption)
    await upsert(stub, *items)
    legs = [
        search_pb2.SearchLeg(name="words", caption_text="red"),
        search_pb2.SearchLeg(name="not", item_id="i0", weight=-1),
    ]
    request = search_pb2.SearchRequest(collection="pictures", legs=legs, limit=10)
    assert {hit.item.id for hit in (await stub.Search(request)).hits} == {f"i{i}" for i in range(1, 6)}
    request.group_by.fields.append("k")
    assert len((await stub.Search(request)).hits) == 2
