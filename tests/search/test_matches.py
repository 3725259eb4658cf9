"""Filters by words: the same on both stores, and as a plain reading of the texts has it."""

# ruff: noqa: RUF001 - letters of other scripts are meant where they look like Latin ones.

import json
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason
from search_svc.app import make_store
from search_svc.filters import All, Filter, Matches, Not, Some
from search_svc.model import Caption, FieldType, Item
from search_svc.store import Store
from search_svc.words.queries import read_words
from search_svc.words.tokens import words_of
from tests.search.conftest import settings_for
from tests.search.evaluate import metadata_of, passes
from tests.search.filter_cases import chosen
from tests.search.strategies import thorough
from tests.search.support import (
    Stub,
    all_of,
    any_of,
    collection,
    create,
    definition,
    item,
    listed,
    none_of,
    refused,
    search_request,
    upsert,
    where,
)

TEXT = search_pb2.FIELD_TYPE_TEXT
CAPTIONS = {
    "band": "The Who, live at Leeds",
    "don": "Don's old dog is running",
    "dont": "Don't run!",
    "cafe": "Un café à l'Île de Ré",
    "kyoto": "京都の古い橋",
    "number": "A 3.5 m mast, 1,870 kg",
    "emoji": "👩🏽\u200d🚀 on the moon 🇩🇪",
    "hebrew": "\u200fשלום\u200e bridge",
    "none": "",
}


def captioned(item_id: str, text: str, **metadata: Any) -> search_pb2.Item:
    return item(item_id, None, metadata, caption=common_pb2.Caption(text=text))


FOUND = [
    ("the who", "band"),
    ("who the", "band"),
    ("Don", "don"),
    ("don's", "don"),
    ("dogs ran running", ""),
    ("dogs run", "don"),
    ("run", "don dont"),
    ('"run"', "dont"),
    ("don't", "dont"),
    ("CAFE ile", "cafe"),
    ("ré", "cafe"),
    ("古い", "kyoto"),
    ("京都 橋", "kyoto"),
    ("橋古", ""),
    ("3.5", "number"),
    ("5.3", ""),
    ("1870", ""),
    ("1,870kg", ""),
    ("m", "number"),
    ("🚀", "emoji"),
    ("👩🚀", "emoji"),
    ("🇩🇪", "emoji"),
    ("🇩", ""),
    ("שלום", "hebrew"),
    ("\u202ebridge", "hebrew"),
    ("le* li*", "band"),
    ("lee* ho*", ""),
    ('"who live at"', "band"),
    ('"who live at leeds"', "band"),
    ('"the who at"', ""),
    ("live | & ! who", "band"),
    ("x" * 9_000, ""),
]


async def test_words_of_captions(filled: Stub) -> None:
    for asked, found in FOUND:
        assert sorted(await listed(filled, where("$caption", matches=asked))) == sorted(found.split()), asked


@pytest.fixture
async def filled(stub: Stub) -> Stub:
    await create(stub, collection(indexes={"title": TEXT, "tags": TEXT, "a.b": TEXT, "place": 1}))
    await upsert(stub, *(captioned(item_id, text) for item_id, text in CAPTIONS.items()), item("bare"))
    return stub


async def test_words_of_metadata(filled: Stub) -> None:
    await upsert(
        filled,
        captioned("t1", "sea", title="Old bridges", tags=["red kite", "dog", 3, ["boat"]], a={"b": "deep"}),
        captioned("t2", "old bridge", title="sea", tags="kite dog"),
        captioned("t3", "", title=7, tags={"dog": 1}),
    )
    found = {
        ("title", "bridge"): ["t1"],
        ("title", "sea"): ["t2"],
        ("$caption", "sea"): ["t1"],
        ("tags", "dog"): ["t1", "t2"],
        ("tags", "dog red"): ["t1"],
        ("tags", '"kite dog"'): ["t2"],
        ("tags", "boat"): [],
        ("a.b", "deep"): ["t1"],
        ("title", "7"): [],
    }
    for (field, asked), ids in found.items():
        assert sorted(await listed(filled, where(field, matches=asked))) == ids, (field, asked)
    # As KEYWORD besides.
    assert await listed(filled, where("title", equals="Old bridges")) == ["t1"]
    facets = await filled.CountFacets(search_pb2.CountFacetsRequest(collection="pictures", fields=["title"]))
    assert [(each.value.string_value, each.count) for each in facets.facets[0].counts] == [
        ("Old bridges", 1),
        ("sea", 1),
    ]


async def test_words_within_trees(filled: Stub) -> None:
    run, dog, leeds = (where("$caption", matches=text) for text in ("run", "dog", "leeds"))
    assert sorted(await listed(filled, any_of(dog, leeds))) == ["band", "don"]
    assert await listed(filled, all_of(run, none_of(dog))) == ["dont"]
    assert len(await listed(filled, none_of(run))) == len(CAPTIONS) - 1
    deleted = await filled.DeleteItems(search_pb2.DeleteItemsRequest(collection="pictures", filter=run))
    assert deleted.deleted_count == 2
    assert await listed(filled, run) == []


async def test_words_change_with_what_is_written(filled: Stub) -> None:
    async def found(field: str, asked: str) -> list[str]:
        return await listed(filled, where(field, matches=asked))

    one = captioned("x", "harbour", title="first", tags="keep")
    await upsert(filled, one)
    assert await upsert(filled, one) == [search_pb2.UPSERT_OUTCOME_UNCHANGED]
    merge = search_pb2.UpsertItemsRequest(
        collection="pictures",
        items=[captioned("x", "lighthouse", title="second")],
        metadata_policy=search_pb2.METADATA_POLICY_MERGE,
    )
    for outcome in (search_pb2.UPSERT_OUTCOME_UPDATED, search_pb2.UPSERT_OUTCOME_UNCHANGED):
        assert (await filled.UpsertItems(merge)).results[0].outcome == outcome
        assert [await found("$caption", text) for text in ("harbour", "lighthouse")] == [[], ["x"]]
        assert [await found("title", text) for text in ("first", "second")] == [[], ["x"]]
        assert await found("tags", "keep") == ["x"]
    await upsert(filled, captioned("x", "lighthouse"))
    assert await found("tags", "keep") == []
    assert await found("title", "second") == []


async def test_searches_are_filtered_by_words(stub: Stub) -> None:
    await create(stub)
    await upsert(
        stub,
        *(
            item(f"i{number}", [1, number, 0, 0], caption=common_pb2.Caption(text=f"{'dogs' if number % 3 else 'cat'}"))
            for number in range(9)
        ),
    )
    request = search_request([1, 0, 0, 0], limit=2, filter=where("$caption", matches="dog"))
    assert [hit.item.id for hit in (await stub.Search(request)).hits] == ["i1", "i2"]


async def test_what_no_text_can_match_is_refused(stub: Stub) -> None:
    await create(stub)
    for field, asked, says in [
        ("$caption", "& | !", "holds no word"),
        ("$caption", "", "holds no word"),
        ("$caption", "語" * 129, "has 129 words, and the limit is 128"),
        ("$caption", "x" * 10_001, "has 10001 characters, and the limit is 10000"),
        ("$caption", "a\0b", "NUL"),
        ("$id", "a", "only $caption"),
    ]:
        request = search_pb2.ListItemsRequest(collection="pictures", filter=where(field, matches=asked))
        error = await refused(
            stub.ListItems(request), grpc.StatusCode.INVALID_ARGUMENT, Reason.FILTER_INVALID, "filter.condition.matches"
        )
        assert says in error.message


async def test_words_that_are_not_kept_are_refused(filled: Stub) -> None:
    for field in ("place", "title.sub", "nothing"):
        await _refused(filled, field)


async def _refused(filled: Stub, field: str) -> None:
    chosen_items = all_of(where("$caption", matches="dog"), where(field, matches="a"))
    path = "filter.all.filters[1].condition.matches"
    calls: list[Awaitable[Any]] = [
        filled.ListItems(search_pb2.ListItemsRequest(collection="pictures", filter=chosen_items)),
        filled.DeleteItems(search_pb2.DeleteItemsRequest(collection="pictures", filter=chosen_items)),
        filled.Search(search_request([1, 0, 0, 0], filter=chosen_items)),
        filled.CountFacets(search_pb2.CountFacetsRequest(collection="pictures", fields=["place"], filter=chosen_items)),
    ]
    for call in calls:
        error = await refused(call, grpc.StatusCode.FAILED_PRECONDITION, Reason.FIELD_NOT_INDEXED, path)
        assert "FieldIndex of type TEXT" in error.message


async def test_the_language_decides(stub: Stub) -> None:
    for language, found in {"de": ["b"], "none": [], "": [], "en": []}.items():
        name = f"in-{language or 'default'}"
        message = collection(name)
        message.language = language
        made = await create(stub, message)
        assert made.language == (language or "en")
        await upsert(stub, captioned("b", "alte Häuser"), into=name)
        request = search_pb2.ListItemsRequest(collection=name, filter=where("$caption", matches="haus alt"))
        assert [each.id for each in (await stub.ListItems(request)).items] == found, language
    other = collection("in-de")
    error = await refused(
        stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=other)),
        grpc.StatusCode.ALREADY_EXISTS,
        Reason.COLLECTION_EXISTS,
    )
    assert "its language is de" in error.message
    other.language = "xx"
    error = await refused(
        stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=other)),
        grpc.StatusCode.INVALID_ARGUMENT,
        Reason.COLLECTION_INVALID,
        "collection.language",
    )
    assert "de, el, en" in error.message


async def test_collections_from_before_words_say_so(qdrant_url: str) -> None:
    store = make_store(settings_for(qdrant_url))
    await store.open()
    try:
        made = (await store.create_collection(definition(language=""), timeout_s=60)).collection
        assert (await store.create_collection(definition(), timeout_s=60)).collection == made
        await store.upsert(made, [Item("a", caption=Caption("dog", 0, 0, False, ""))], timeout_s=60)
        with pytest.raises(PreconditionFailed, match="from before words were kept in Qdrant: make another one") as said:
            await chosen(store, made, Matches(("$caption",), read_words("dog")))
        assert said.value.reason is Reason.FIELD_NOT_INDEXED
        assert await chosen(store, made, All(())) == {"a"}
    finally:
        await store.close()


_words = st.sampled_from(["a", "the", "dog", "dogs", "Dog's", "run", "running", "é", "e", "語", "橋", "3.5", "👍", "d"])
_texts = st.lists(_words, max_size=6).map(" ".join)
_parts = st.one_of(
    _words,
    st.lists(_words, min_size=1, max_size=3).map(" ".join).filter(lambda t: len(words_of(t)) <= 3).map('"{}"'.format),
    st.sampled_from(["d*", "ru*", "é*", "語橋", "dogs-run"]),
)
_queries = st.lists(_parts, min_size=1, max_size=3).map(" ".join)
_tests: st.SearchStrategy[Filter] = st.builds(
    lambda path, text: Matches(path, read_words(text)), st.sampled_from([("$caption",), ("w",)]), _queries
)
_trees = st.recursive(
    _tests,
    lambda inner: st.one_of(
        st.builds(Not, inner), *(st.builds(kind, st.lists(inner, max_size=2).map(tuple)) for kind in (All, Some))
    ),
    max_leaves=3,
)


@settings(thorough, max_examples=12)
@given(
    texts=st.lists(st.tuples(_texts, _texts | st.lists(_texts, max_size=2)), min_size=1, max_size=6),
    trees=st.lists(_trees, min_size=1, max_size=8),
)
async def test_any_words_are_found_as_they_read(store: Store, texts: list[Any], trees: list[Filter]) -> None:
    await _compare(store, texts, trees)


async def test_local_mode_finds_alike(tmp_path: Path) -> None:
    store = make_store(settings_for(f"qdrant+local:{tmp_path}"))
    await store.open()
    try:
        texts: list[tuple[str, str | list[str]]] = [("a dog", "run"), ("dogs run", ["the dog", "é"]), ("語橋 3.5", [])]
        fields: list[tuple[str, ...]] = [("$caption",), ("w",)]
        asked = ["dog", "dogs run", '"a dog"', "d*", "語橋", "3.5", "e", "the dog é"]
        trees: list[Filter] = [Matches(path, read_words(text)) for path in fields for text in asked]
        await _compare(store, texts, [*trees, *map(Not, trees)])
    finally:
        await store.close()


async def _compare(store: Store, texts: list[Any], trees: list[Filter]) -> None:
    made = (await store.create_collection(definition(indexes={"w": FieldType.TEXT}), timeout_s=60)).collection
    items = [
        Item(f"i{at}", caption=Caption(caption, 0, 0, False, ""), metadata=json.dumps({"w": field}))
        for at, (caption, field) in enumerate(texts)
    ]
    await store.delete_matching(made, All(()), timeout_s=60)
    await store.upsert(made, items, timeout_s=60)
    for tree in trees:
        expected = {each.id for each in items if passes(tree, each, metadata_of(each))}
        assert await chosen(store, made, tree) == expected, tree
