"""Searches by several queries at once: what is sent, what comes back, and what is refused before anything is sent."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.rpc.status import to_status
from lensmesh_client import (
    Client,
    Diversity,
    Embedding,
    FusionMethod,
    GroupBy,
    Hit,
    LegScore,
    Query,
    Search,
    SearchResult,
)
from lensmesh_client.errors import InvalidInput, LensmeshError, Reason, Unavailable
from lensmesh_client.searches import stored
from lensmesh_client.translate_found import hit
from tests.client.fake_router import FakeRouter

VECTOR = Embedding([1.0, 0, 0, 0], "vs1-x")  # type: ignore[arg-type]  # numpy makes an array of it


async def test_queries_are_sent_with_names_of_their_own(client: Client, router: FakeRouter, tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"cat")
    found = await client.search(
        queries=[
            "a cat",
            Query("a dog", weight=-0.5),
            Query(image=path, name="text 2"),
            Query(item_id="one", space="other"),
            Query(embedding=VECTOR, weight=2),
        ],
        space="image",
    )
    [request] = router.calls[-1:]
    assert [(query.name, query.WhichOneof("query"), query.space, query.weight) for query in request.queries] == [
        ("text", "text", "image", 0),
        ("text 3", "text", "image", -0.5),
        ("text 2", "image", "image", 0),
        ("item", "item_id", "other", 0),
        ("embedding", "embedding", "image", 2),
    ]
    assert request.queries[2].image.content == b"cat"
    assert not request.HasField("fusion")
    assert found.hits[0].legs[1] == LegScore("text 3", 0.5, 2)
    assert found.hits[0].group is None


async def test_hits_may_have_a_relevance(client: Client, router: FakeRouter) -> None:
    mine = Query(embedding=VECTOR, modality="text")
    found = await client.search(queries=["a cat", mine], min_relevance=0.5)
    [request] = router.calls[-1:]
    assert (request.min_relevance, [query.modality for query in request.queries]) == (0.5, [0, 2])
    assert found.hits[0].relevance is None
    assert hit(search_pb2.Hit(relevance=0.75)).relevance == 0.75
    assert hit(search_pb2.Hit(relevance=0)).relevance == 0
    leg = stored(Search(embedding=VECTOR, min_relevance=0), "mine")
    assert (leg.HasField("min_relevance"), leg.legs[0].modality) == (True, 0)
    with pytest.raises(InvalidInput, match="modality"):
        await client.search(queries=[Query("a cat", modality="text")])
    with pytest.raises(InvalidInput, match="use one of image, text"):
        await client.search(queries=[Query(embedding=VECTOR, modality="sound")])


async def test_words_have_fields_and_no_space(client: Client, router: FakeRouter) -> None:
    fields = ["title", "$caption"]
    await client.search(queries=["a cat", Query(words="cat", text_fields=fields)], space="image")
    await client.search(words="cat", text_fields="title")
    several, alone = router.calls
    assert [(query.name, query.space) for query in several.queries] == [("text", "image"), ("words", "")]
    assert several.queries[1].caption_text == alone.queries[0].caption_text == "cat"
    assert list(several.queries[1].text_fields) == fields
    assert list(alone.queries[0].text_fields) == ["title"]
    leg = stored(Search(words="cat", text_fields=fields), "mine").legs[0]
    assert (leg.caption_text, list(leg.text_fields)) == ("cat", fields)


async def test_one_query_needs_no_name(client: Client, router: FakeRouter) -> None:
    await client.search(queries="a cat")
    await client.search(queries=[Query("a cat", name="mine")])
    assert [call.queries[0].name for call in router.calls] == ["", "mine"]


async def test_how_hits_are_ranked(client: Client, router: FakeRouter) -> None:
    found = await client.search(
        "a cat", fusion="rrf", rrf_k=10, group_by=["artist", "year"], diversity=0.3, partial=True
    )
    await client.search("a cat", rrf_k=5, group_by=GroupBy("artist", size=2), diversity=Diversity(0, candidates=7))
    await client.search("a cat", fusion=FusionMethod.WEIGHTED, group_by="$content_digest")
    first, second, third = router.calls
    assert (first.fusion.method, first.fusion.rrf_k) == (search_pb2.FUSION_METHOD_RRF, 10)
    assert (list(first.group_by.fields), first.group_by.size) == (["artist", "year"], 1)
    assert first.diversity.strength == pytest.approx(0.3)
    assert first.partial
    assert found.hits[0].group == ("Monet", 1870)
    assert (second.fusion.method, second.fusion.rrf_k) == (search_pb2.FUSION_METHOD_RRF, 5)
    assert (list(second.group_by.fields), second.group_by.size) == (["artist"], 2)
    assert second.diversity.HasField("strength")
    assert second.diversity.candidates == 7
    assert not second.partial
    assert third.fusion.method == search_pb2.FUSION_METHOD_WEIGHTED
    assert list(third.group_by.fields) == ["$content_digest"]


async def test_a_query_that_was_left_out_is_named(client: Client, router: FakeRouter) -> None:
    away = Unavailable(Reason.ENCODER_UNAVAILABLE, "no encoder", retry_after_s=1.0)
    router.failed_legs = [search_pb2.FailedLeg(name="text", error=to_status(away))]
    found = await client.search(queries=["a cat", Query(item_id="one")], partial=True)
    [failed] = found.failed
    assert (failed.name, failed.error.reason, failed.error.retry_after_s) == ("text", Reason.ENCODER_UNAVAILABLE, 1.0)
    assert [leg.name for leg in found.hits[0].legs] == ["item"]


def test_hits_by_their_group() -> None:
    values: list[tuple[object, ...] | None] = [("a", [1]), ("b", [1]), None, ("a", [1]), (True, [1]), (1, [1]), None]
    hits = tuple(Hit(str(number), 1.0, group=group) for number, group in enumerate(values))
    groups = SearchResult(hits).groups
    assert [(group.values, "".join(hit.id for hit in group.hits)) for group in groups] == [
        (("a", [1]), "03"),
        (("b", [1]), "1"),
        (None, "2"),
        ((True, [1]), "4"),
        ((1, [1]), "5"),
        (None, "6"),
    ]


def test_the_store_is_asked_by_legs() -> None:
    request = stored(Search(queries=[Query(item_id="one"), Query(embedding=VECTOR, weight=-1)], group_by="a"), "mine")
    assert [(leg.name, leg.WhichOneof("query"), leg.weight) for leg in request.legs] == [
        ("item", "item_id", 0),
        ("embedding", "embedding", -1),
    ]
    assert (request.collection, list(request.group_by.fields)) == ("mine", ["a"])


REFUSED: dict[str, tuple[Callable[[Client], Awaitable[object]], str, Reason]] = {
    "none": (lambda mesh: mesh.search(queries=[]), "queries", Reason.QUERY_INVALID),
    "beside a text": (lambda mesh: mesh.search("a", queries=["b"]), "search", Reason.QUERY_INVALID),
    "of two kinds": (
        lambda mesh: mesh.search(queries=["a", Query("b", item_id="c")]),
        "queries[1]",
        Reason.QUERY_INVALID,
    ),
    "of no kind": (lambda mesh: mesh.search(queries=[Query()]), "queries[0]", Reason.QUERY_INVALID),
    "no list": (lambda mesh: mesh.search(queries=5), "queries", Reason.QUERY_INVALID),  # type: ignore[arg-type]  # its very point
    "no queries": (lambda mesh: mesh.search(queries=[b"a"]), "queries", Reason.QUERY_INVALID),  # type: ignore[list-item]  # its very point
    "a text's bytes": (lambda mesh: mesh.search(queries=[Query("caf\udce9")]), "queries[0].text", Reason.TEXT_INVALID),
    "a space of words": (lambda mesh: mesh.search(words="a", space="image"), "queries[0].space", Reason.QUERY_INVALID),
    "a space of several words": (
        lambda mesh: mesh.search(queries=[Query(words="a"), Query(words="b")], space="image"),
        "space",
        Reason.QUERY_INVALID,
    ),
    "fields of a text": (
        lambda mesh: mesh.search("a", text_fields=["title"]),
        "queries[0].text_fields",
        Reason.QUERY_INVALID,
    ),
    "fields of several": (
        lambda mesh: mesh.search(queries=["a"], text_fields=["title"]),
        "text_fields",
        Reason.QUERY_INVALID,
    ),
    "fields that are none": (
        lambda mesh: mesh.search(words="a", text_fields=[5]),  # type: ignore[list-item]  # its very point
        "queries[0].text_fields[0]",
        Reason.QUERY_INVALID,
    ),
    "a method": (lambda mesh: mesh.search("a", fusion="best"), "options.fusion", Reason.OPTION_INVALID),
    "a number as method": (lambda mesh: mesh.search("a", rrf_k=-1), "search", Reason.OPTION_INVALID),
    "groups": (lambda mesh: mesh.search("a", group_by=["a", 5]), "group_by.fields[1]", Reason.OPTION_INVALID),  # type: ignore[list-item]  # its very point
    "diversity": (lambda mesh: mesh.search("a", diversity="b"), "search", Reason.OPTION_INVALID),  # type: ignore[arg-type]  # its very point
    "a text of the store": (lambda mesh: mesh.items.search(queries=["a"]), "legs[0]", Reason.QUERY_INVALID),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_cannot_be_asked_is_refused(client: Client, router: FakeRouter, name: str) -> None:
    call, field, reason = REFUSED[name]
    with pytest.raises(LensmeshError) as caught:
        await call(client)
    assert (caught.value.reason, caught.value.violations[0].field) == (reason, field)
    assert not any(isinstance(each, search_pb2.SearchRequest) or hasattr(each, "queries") for each in router.calls)


@pytest.mark.parametrize("weight", [0, 0.0, float("nan"), float("-inf"), 1e40, 1e-60, "2", None])
async def test_a_weight_that_counts_for_nothing_or_for_all(client: Client, router: FakeRouter, weight: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        await client.search(queries=["a", Query("b", weight=weight)])
    assert caught.value.reason is Reason.QUERY_INVALID
    assert router.calls == []


async def test_a_search_of_a_batch_is_named_by_its_place(client: Client) -> None:
    found = await client.search_many([Search(queries=["a", Query()]), Search("a", queries=["b"])])
    assert [result.error.violations[0].field for result in found if result.error] == [
        "searches[0].queries[1]",
        "searches[1]",
    ]
