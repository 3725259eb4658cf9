"""Search by words: the same hits, ranks and scores on both stores, and as a plain reading of the texts has them."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.reasons import Reason
from search_svc.app import make_store
from search_svc.filters import All
from search_svc.legs import WordsLeg
from search_svc.model import Caption, Item, View
from search_svc.postgres import word_legs as in_postgres
from search_svc.qdrant import word_legs as in_qdrant
from search_svc.store import Query, Store
from search_svc.words.languages import forms, is_stop_word
from search_svc.words.queries import Term, read_words
from search_svc.words.tokens import fold, words_of
from search_svc.words.wanting import wanted
from tests.search.conftest import settings_for
from tests.search.evaluate import holds, holds_itself
from tests.search.strategies import thorough
from tests.search.support import (
    Stub,
    collection,
    create,
    definition,
    embedding,
    item,
    none_of,
    refused,
    upsert,
    where,
)

TEXT = search_pb2.FIELD_TYPE_TEXT


def captioned(item_id: str, text: str, vector: list[float] | None = None, **metadata: Any) -> search_pb2.Item:
    return item(item_id, vector, metadata, caption=common_pb2.Caption(text=text))


def asking(text: str, *text_fields: str, **fields: Any) -> search_pb2.SearchRequest:
    request = search_pb2.SearchRequest(**{"collection": "pictures", "limit": 100, **fields})
    request.legs.add(caption_text=text, text_fields=text_fields)
    return request


async def ids(stub: Stub, request: search_pb2.SearchRequest) -> list[str]:
    return [hit.item.id for hit in (await stub.Search(request)).hits]


@pytest.fixture
async def filled(stub: Stub) -> Stub:
    await create(stub, collection(indexes={"title": TEXT, "artist": 1}))
    await upsert(
        stub,
        captioned("adjacent", "a red circle above a blue square", [1, 0, 0, 0], artist="x"),
        captioned("apart", "a blue circle and a red square", [0, 1, 0, 0], artist="x"),
        captioned("stem", "two red circles over a blue square", [0, 0, 1, 0], artist="y"),
        captioned("one", "a red square", [1, 1, 0, 0], artist="y"),
        captioned("band", "The Who, live at Leeds", title="red circle"),
        captioned("don", "Don, who is the king"),
        captioned("kyoto", "京都の古い橋"),
        item("bare", [0, 0, 0, 1]),
    )
    return stub


async def test_what_words_find_and_in_which_order(filled: Stub) -> None:
    for asked, found in {
        "red circle": ["adjacent", "apart", "stem", "one"],
        "circles": ["stem", "apart", "adjacent"],
        '"red circle"': ["adjacent"],
        "circle red": ["apart", "adjacent", "stem", "one"],
        "the red circle": ["adjacent", "apart", "stem", "one"],
        "the who": ["band", "don"],
        "Don": ["don"],
        "don's": ["don"],
        "king leeds": ["don", "band"],
        "circ*": ["apart", "adjacent", "stem"],
        "古い橋": ["kyoto"],
        "nothing here": [],
        "a": ["one", "apart", "adjacent", "stem"],
    }.items():
        assert await ids(filled, asking(asked)) == found, asked


async def test_scores_and_ranks_are_told(filled: Stub) -> None:
    response = await filled.Search(asking("red circle"))
    assert response.exact
    scores = [hit.score for hit in response.hits]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1 for score in scores)
    # Half of the words, half of the score at most.
    assert scores[-1] <= 0.5 < scores[-2]
    assert [(leg.score, leg.rank) for hit in response.hits for leg in hit.legs] == [
        (score, rank) for rank, score in enumerate(scores, start=1)
    ]


async def test_other_texts_are_asked(filled: Stub) -> None:
    assert await ids(filled, asking("red circle", "title")) == ["band"]
    both = await ids(filled, asking("red circle", "title", "$caption"))
    assert both[:2] == ["adjacent", "band"]
    assert sorted(both) == ["adjacent", "apart", "band", "one", "stem"]
    # Words may stand in several texts.
    assert await ids(filled, asking("leeds circle", "title", "$caption", limit=1)) == ["band"]


async def test_filters_pages_groups_and_least_scores(filled: Stub) -> None:
    everything = await ids(filled, asking("red circle"))
    assert [(await ids(filled, asking("red circle", limit=1, offset=at)))[0] for at in range(4)] == everything
    assert await ids(filled, asking("red circle", filter=none_of(where("$id", equals="apart")))) == [
        "adjacent",
        "stem",
        "one",
    ]
    assert await ids(filled, asking("red circle", min_score=0.5)) == everything[:3]
    grouped = await filled.Search(asking("red circle", group_by=search_pb2.GroupBy(fields=["artist"])))
    assert [(hit.item.id, hit.group[0]) for hit in grouped.hits] == [("adjacent", "x"), ("stem", "y")]


async def test_words_and_vectors_are_fused(filled: Stub) -> None:
    request = search_pb2.SearchRequest(collection="pictures", limit=100)
    request.legs.add(name="near", weight=2).embedding.CopyFrom(embedding([0, 0, 1, 0]))
    request.legs.add(name="words", caption_text="red circle")
    ranks = {hit.item.id: {leg.name: leg.rank for leg in hit.legs} for hit in (await filled.Search(request)).hits}
    assert next(iter(ranks)) == "stem"
    assert ranks["stem"] == {"near": 1, "words": 3}
    assert set(ranks["bare"]) == {"near"}
    # Words push away what they find.
    request.legs[1].weight = -1
    hits = {hit.item.id: {leg.name for leg in hit.legs} for hit in (await filled.Search(request)).hits}
    assert hits["adjacent"] == {"near", "words"}
    assert next(iter(hits)) != "adjacent"
    assert set(list(hits)[-3:]) <= {"adjacent", "apart", "one"}
    # Conditions are of what finds, not of what pushes away.
    narrow = search_pb2.SearchRequest()
    narrow.CopyFrom(request)
    narrow.filter.CopyFrom(where("artist", equals="x"))
    narrow.group_by.fields.append("artist")
    assert await ids(filled, narrow) == ["adjacent"]
    # What is near is pushed away from what words find.
    request.legs[0].weight, request.legs[1].weight = -1, 1
    hits = {hit.item.id: {leg.name for leg in hit.legs} for hit in (await filled.Search(request)).hits}
    assert sorted(hits) == ["adjacent", "apart", "one", "stem"]


async def test_hits_of_words_differ_where_that_is_asked(filled: Stub) -> None:
    request = asking("red circle", limit=2, diversity=search_pb2.Diversity(strength=0.9))
    assert (await ids(filled, request))[0] == "adjacent"


async def test_bad_legs_are_refused(filled: Stub) -> None:
    for text, says in {
        "& | !": "holds no word",
        "": "holds no word",
        "a\0b": "NUL",
        "x " * 129: "has 129 words, and the limit is 128",
        "x" * 10_001: "has 10001 characters, and the limit is 10000",
    }.items():
        error = await refused(
            filled.Search(asking(text)),
            grpc.StatusCode.INVALID_ARGUMENT,
            Reason.QUERY_INVALID,
            "legs[0].caption_text",
        )
        assert says in error.message
    assert await ids(filled, asking("x" * 9_999)) == []
    unkept: dict[tuple[str, ...], str] = {
        ("$id",): "legs[0].text_fields[0]",
        ("title", "artist"): "legs[0].text_fields[1]",
    }
    for fields, path in unkept.items():
        await refused(
            filled.Search(asking("a", *fields)), grpc.StatusCode.FAILED_PRECONDITION, Reason.FIELD_NOT_INDEXED, path
        )
    wrong: dict[tuple[str, ...], str] = {
        ("title", "title"): "legs[0].text_fields",
        ("a..b",): "legs[0].text_fields[0]",
    }
    for fields, path in wrong.items():
        await refused(filled.Search(asking("a", *fields)), grpc.StatusCode.INVALID_ARGUMENT, Reason.QUERY_INVALID, path)
    near = search_pb2.SearchRequest(collection="pictures")
    near.legs.add(text_fields=["title"]).embedding.CopyFrom(embedding([1, 0, 0, 0]))
    await refused(filled.Search(near), grpc.StatusCode.INVALID_ARGUMENT, Reason.QUERY_INVALID, "legs[0].text_fields")


async def test_of_very_frequent_words_so_many_are_ranked(filled: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_postgres, "MAX_RANKED", 2)
    monkeypatch.setattr(in_qdrant, "MAX_RANKED", 2)
    monkeypatch.setattr(in_postgres, "MAX_RANKED_LATER", 6)
    monkeypatch.setattr(in_qdrant, "PIECE", 2)
    response = await filled.Search(asking("red"))
    assert len(response.hits) == 2
    assert not response.exact
    again = await filled.Search(asking("red"))
    assert [hit.item.id for hit in again.hits] == [hit.item.id for hit in response.hits]
    assert (await filled.Search(asking("leeds"))).exact
    # What holds both is enough for the page, and what holds one is not looked at.
    assert (await filled.Search(asking("live leeds red", limit=2))).exact is False
    assert (await filled.Search(asking("live leeds", limit=1))).exact


def expected(captions: dict[str, list[str]], text: str, language: str) -> list[tuple[str, float]]:
    """Every item that holds a word, with its score, best first: a plain reading of what the contract says."""
    terms = list({_as_asked(term): term for term in read_words(text).terms}.values())

    def says_little(term: Term) -> bool:
        single = len(term.words) == 1 and not term.is_quoted and not term.is_prefix
        return single and is_stop_word(fold(term.words[0]), language)

    optional = [says_little(term) for term in terms]
    if all(optional):
        optional = [False] * len(terms)
    pairs = [
        Term((one.words[-1], other.words[0]), is_quoted=True)
        for one, other in pairwise(terms)
        if not one.is_prefix and not other.is_prefix
    ]
    weights = [0.2 if little else 1.0 for little in optional]
    best = sum(weights) + 0.5 * len(pairs)
    found = []
    for item_id, texts in captions.items():
        own = [
            1.0 if holds_itself(term, texts, language) else 0.7 if holds(term, texts, language) else 0.0
            for term in terms
        ]
        content = sum(bool(worth) for worth, little in zip(own, optional, strict=True) if not little)
        if not content:
            continue
        worth = sum(weight * each for weight, each in zip(weights, own, strict=True))
        worth += 0.5 * sum(holds(pair, texts, language) for pair in pairs)
        pairs_of_forms = {forms(word, language) for text in texts for word in words_of(text)}
        count = len({word for word, _ in pairs_of_forms}) + len({stem for _, stem in pairs_of_forms if stem})
        score = (content - 1 + worth / best * (100 / (100 + count))) / optional.count(False)
        found.append((item_id, float(np.float32(score))))
    return sorted(found, key=lambda each: (-each[1], each[0]))


def _as_asked(term: Term) -> tuple[object, ...]:
    return tuple(map(fold, term.words)), term.is_quoted or len(term.words) > 1, term.is_prefix


_words = st.sampled_from(
    ["a", "the", "dog", "dogs", "Dog's", "run", "running", "é", "e", "語", "橋", "3.5", "👍", "red"]
)
_texts = st.lists(_words, max_size=8).map(" ".join)
_queries = st.lists(
    _words | st.sampled_from(['"a dog"', '"run"', "d*", "ru*", "語橋", "red-dog"]), min_size=1, max_size=5
).map(" ".join)


@settings(thorough, max_examples=12)
@given(
    texts=st.lists(_texts, min_size=1, max_size=12),
    queries=st.lists(_queries, min_size=1, max_size=6),
    language=st.sampled_from(["en", "none"]),
)
async def test_any_words_are_ranked_as_they_read(
    store: Store, texts: list[str], queries: list[str], language: str
) -> None:
    await _compare(store, texts, queries, language)


async def test_local_mode_ranks_alike(tmp_path: Path) -> None:
    store = make_store(settings_for(f"qdrant+local:{tmp_path}"))
    await store.open()
    try:
        texts = ["a red dog", "the dogs run", "Dog's run, red", "語橋 3.5", "", "running", "red"]
        queries = ["dog", "red dog run", '"the dogs" red', "d*", "語橋", "3.5", "the", "the dogs"]
        await _compare(store, texts, queries, "en")
    finally:
        await store.close()


async def _compare(store: Store, texts: list[str], queries: list[str], language: str) -> None:
    made = definition(f"in-{language}", language=language)
    there = (await store.create_collection(made, timeout_s=60)).collection
    await store.delete_matching(there, All(()), timeout_s=60)
    items = [Item(f"i{at:02}", caption=Caption(text, 0, 0, False, "")) for at, text in enumerate(texts)]
    await store.upsert(there, items, timeout_s=60)
    captions = {f"i{at:02}": [text] for at, text in enumerate(texts)}
    for text in queries:
        leg = WordsLeg(wanted(read_words(text), language), (0,), made.spaces[0])
        query = Query((leg,), None, 100, 0, None, False, None, View.ID, max_bytes=1 << 20)
        hits = await store.search(there, query, timeout_s=60)
        assert hits.exact
        found = [(hit.item.id, hit.score) for hit in hits.hits]
        assert found == expected(captions, text, language), text
