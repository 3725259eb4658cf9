"""Searches in words, in images, by item and by vector."""

from typing import Any

import pytest
from google.protobuf import struct_pb2

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, LensmeshError, NotFound, PreconditionFailed, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from tests.router.conftest import Mesh
from tests.router.fakes import OTHER_SPACE, SPACE, FakeEncoder, vector
from tests.router.helpers import error_of, item


def search(*queries: router_pb2.Query, **fields: Any) -> router_pb2.SearchRequest:
    return router_pb2.SearchRequest(queries=queries, **fields)


def text(words: str, **fields: Any) -> router_pb2.Query:
    return router_pb2.Query(text=words, **fields)


def image(content: bytes) -> router_pb2.Query:
    return router_pb2.Query(image=common_pb2.Image(content=content))


@pytest.fixture
async def filled(mesh: Mesh) -> Mesh:
    """Five images; a text of the same bytes lies where its image does."""
    await mesh.ingest(*(item(f"p{n}", id=f"id{n}") for n in range(5)))
    mesh.encoder.options.clear()
    return mesh


async def test_by_text(filled: Mesh) -> None:
    answer = await filled.router.Search(search(text("p3"), limit=2))
    assert answer.hits[0].item.id == "id3"
    assert len(answer.hits) == 2
    assert answer.hits[0].score == pytest.approx(1, abs=1e-5)
    assert answer.encode_us > 0
    assert answer.store_us > 0
    assert {options.priority for options in filled.encoder.options} == {common_pb2.PRIORITY_INTERACTIVE}


async def test_by_image_item_and_vector(filled: Mesh) -> None:
    by_image = await filled.router.Search(search(image(b"p2")))
    assert by_image.hits[0].item.id == "id2"
    by_item = await filled.router.Search(search(router_pb2.Query(item_id="id2")))
    assert "id2" not in {hit.item.id for hit in by_item.hits}
    by_vector = await filled.router.Search(search(router_pb2.Query(embedding=vector(b"p4", SPACE))))
    assert by_vector.hits[0].item.id == "id4"
    assert by_vector.encode_us == 0


async def test_everything_else_reaches_the_store_unchanged(filled: Mesh) -> None:
    asked = search(
        text("p1", name="n", weight=2),
        limit=3,
        offset=1,
        min_score=-0.5,
        tuning=search_pb2.SearchTuning(exact=True),
        read=search_pb2.ReadOptions(view=search_pb2.ITEM_VIEW_FULL),
        filter=search_pb2.Filter(condition=search_pb2.Condition(field="a", equals=struct_pb2.Value(bool_value=True))),
    )
    await filled.router.Search(asked)
    seen = filled.search.searches[-1]
    assert (seen.collection, seen.limit, seen.offset, seen.min_score) == ("default", 3, 1, -0.5)
    assert (seen.tuning, seen.read, seen.filter) == (asked.tuning, asked.read, asked.filter)
    assert (seen.legs[0].name, seen.legs[0].space, seen.legs[0].weight) == ("n", "image", 2)
    assert not seen.HasField("fusion")


async def test_the_store_is_told_what_queries_are_made_of(filled: Mesh) -> None:
    mine = router_pb2.Query(embedding=vector(b"p4", SPACE), modality=common_pb2.MODALITY_TEXT)
    unknown = router_pb2.Query(embedding=vector(b"p4", SPACE))
    queries = [text("p1"), image(b"p2"), mine, unknown, router_pb2.Query(item_id="id2")]
    for number, query in enumerate(queries):
        query.name = f"{number}"
    await filled.router.Search(search(*queries, min_relevance=0.25))
    seen = filled.search.searches[-1]
    assert [leg.modality for leg in seen.legs] == [2, 1, 2, 0, 0]
    assert (seen.HasField("min_relevance"), seen.min_relevance) == (True, 0.25)
    await filled.router.Search(search(text("p1")))
    assert not filled.search.searches[-1].HasField("min_relevance")


async def test_pages_are_what_one_request_gives(mesh: Mesh) -> None:
    """Seven images of one content, so that their scores tie, among others."""
    await mesh.ingest(*(item(str(n), f"p{n % 5 if n < 12 else 0}".encode(), id=f"id{n:02}") for n in range(19)))

    def asked(limit: int, offset: int = 0) -> router_pb2.SearchRequest:
        return search(text("p0"), limit=limit, offset=offset)

    whole = [hit.item.id for hit in (await mesh.router.Search(asked(100))).hits]
    assert len(whole) == len(set(whole)) == 19
    pages = [asked(4, offset) for offset in range(0, 24, 4)]
    one_by_one = [hit.item.id for page in pages for hit in (await mesh.router.Search(page)).hits]
    assert one_by_one == whole
    answer = await mesh.router.BatchSearch(router_pb2.BatchSearchRequest(searches=pages))
    assert [hit.item.id for result in answer.results for hit in result.response.hits] == whole


BAD: dict[str, tuple[router_pb2.SearchRequest, type[LensmeshError], Reason, str]] = {
    "no query": (search(), InvalidInput, Reason.QUERY_INVALID, "queries"),
    "nine queries": (search(*[text("a")] * 9), InvalidInput, Reason.QUERY_INVALID, "queries"),
    "empty query": (search(router_pb2.Query()), InvalidInput, Reason.QUERY_INVALID, "queries[0]"),
    "empty text": (search(text("")), InvalidInput, Reason.TEXT_EMPTY, "queries[0].text"),
    "bad image": (search(image(b"bad")), InvalidInput, Reason.IMAGE_UNDECODABLE, "queries[0].image.content"),
    "unknown space": (search(text("a", space="nose")), InvalidInput, Reason.SPACE_UNKNOWN, "queries[0].space"),
    "modality of a text": (
        search(text("a", modality=common_pb2.MODALITY_IMAGE)),
        InvalidInput,
        Reason.QUERY_INVALID,
        "queries[0].modality",
    ),
    "unknown item": (search(router_pb2.Query(item_id="none")), NotFound, Reason.ITEM_NOT_FOUND, "queries[0].item_id"),
    "other space": (
        search(router_pb2.Query(embedding=vector(b"a", OTHER_SPACE))),
        PreconditionFailed,
        Reason.SPACE_MISMATCH,
        "queries[0].embedding",
    ),
}


@pytest.mark.parametrize("name", sorted(BAD))
async def test_a_bad_search_is_refused_by_its_own_path(filled: Mesh, name: str) -> None:
    request, kind, reason, path = BAD[name]
    error = await error_of(filled.router.Search(request))
    assert (type(error), error.reason) == (kind, reason)
    assert [violation.field for violation in error.violations] == [path]
    assert "legs" not in error.message


@pytest.mark.parametrize("name", sorted(BAD))
async def test_a_bad_search_of_a_batch_fails_alone(filled: Mesh, name: str) -> None:
    request, kind, reason, path = BAD[name]
    batch = router_pb2.BatchSearchRequest(searches=[search(text("p1")), request, search(image(b"p2"))])
    answer = await filled.router.BatchSearch(batch)
    first, bad, last = answer.results
    assert (first.response.hits[0].item.id, last.response.hits[0].item.id) == ("id1", "id2")
    error = from_status(bad.error)
    assert (type(error), error.reason) == (kind, reason)
    assert [violation.field for violation in error.violations] == [f"searches[1].{path}"]


async def test_a_batch_is_encoded_together(filled: Mesh) -> None:
    calls = len(filled.encoder.faults.calls)
    batch = router_pb2.BatchSearchRequest(
        searches=[search(text(f"p{n}")) for n in range(5)] + [search(image(b"p1")), search(image(b"p2"))]
    )
    answer = await filled.router.BatchSearch(batch)
    assert [result.response.hits[0].item.id for result in answer.results] == [
        "id0",
        "id1",
        "id2",
        "id3",
        "id4",
        "id1",
        "id2",
    ]
    assert sorted(filled.encoder.faults.calls[calls:]) == [2, 5]


async def test_a_batch_without_searches_is_refused(filled: Mesh) -> None:
    error = await error_of(filled.router.BatchSearch(router_pb2.BatchSearchRequest()))
    assert error.reason is Reason.NO_ITEMS


async def test_an_unknown_collection(mesh: Mesh) -> None:
    error = await error_of(mesh.router.Search(search(text("a"), collection="none")))
    assert isinstance(error, NotFound)
    assert error.reason is Reason.COLLECTION_NOT_FOUND


async def test_a_space_that_no_encoder_serves(mesh: Mesh) -> None:
    mesh.search.make("foreign", ("image", OTHER_SPACE))
    error = await error_of(mesh.router.Search(search(text("a"), collection="foreign")))
    assert error.reason is Reason.SPACE_NOT_SERVED
    assert SPACE.id in error.message


async def test_each_space_is_asked_at_its_own_encoder(unstarted: Mesh) -> None:
    unstarted.encoders.append(FakeEncoder(OTHER_SPACE))
    mesh = await unstarted.start()
    mesh.search.make("both", ("image", SPACE), ("second", OTHER_SPACE))
    await mesh.ingest(item("a", id="a"), item("b", id="b"), collection="both")
    for space in ("image", "second"):
        answer = await mesh.router.Search(search(text("a", space=space), collection="both"))
        assert answer.hits[0].item.id == "a"
        assert answer.hits[0].score == pytest.approx(1, abs=1e-5)
    assert [encoder.texts for encoder in mesh.encoders] == [["a"], ["a"]]


async def test_a_collection_made_anew_with_another_space_is_noticed(unstarted: Mesh) -> None:
    unstarted.encoders.append(FakeEncoder(OTHER_SPACE))
    mesh = await unstarted.start(collection_cache_seconds=600)
    mesh.search.make("c", ("image", SPACE))
    await mesh.router.Search(search(text("a"), collection="c"))
    mesh.search.make("c", ("image", OTHER_SPACE))
    await mesh.router.Search(search(text("a"), collection="c"))
    assert mesh.search.searches[-1].legs[0].embedding.space_id == OTHER_SPACE.id


async def test_without_an_encoder_searches_by_vector_still_work(filled: Mesh) -> None:
    await filled.host(filled.encoder).kill()
    error = await error_of(filled.router.Search(search(text("a"))))
    assert isinstance(error, Unavailable)
    assert error.reason is Reason.ENCODER_UNAVAILABLE
    assert error.retry_after_s
    by_item = await filled.router.Search(search(router_pb2.Query(item_id="id1")))
    assert len(by_item.hits) == 4


async def test_a_store_that_is_down_and_back(filled: Mesh) -> None:
    filled.search.faults.fail_always = Unavailable(Reason.STORE_UNAVAILABLE, "no database", retry_after_s=0.5)
    error = await error_of(filled.router.Search(search(text("p1"))))
    assert error.reason is Reason.STORE_UNAVAILABLE
    filled.search.faults.fail_always = None
    assert (await filled.router.Search(search(text("p1")))).hits[0].item.id == "id1"
