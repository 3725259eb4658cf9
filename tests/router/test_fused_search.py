"""Searches by several queries: encoded at the same time, fused by the store, answered in part where that is allowed."""

import asyncio
from typing import Any

import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InternalFault, InvalidInput, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from router_svc.search_work import SearchWork
from tests.router.conftest import Mesh
from tests.router.fakes import OTHER_SPACE, SPACE, FakeEncoder, vector
from tests.router.helpers import error_of, item
from tests.support.waiting import until

GONE = PreconditionFailed(Reason.SPACE_NOT_SERVED, "it serves another space by now")


def search(*queries: router_pb2.Query, **fields: Any) -> router_pb2.SearchRequest:
    return router_pb2.SearchRequest(queries=queries, collection="both", **fields)


def text(words: str, name: str = "text", **fields: Any) -> router_pb2.Query:
    return router_pb2.Query(text=words, name=name, **fields)


def image(content: bytes, name: str = "image", **fields: Any) -> router_pb2.Query:
    return router_pb2.Query(image=common_pb2.Image(content=content), name=name, **fields)


def like(item_id: str, name: str = "like", **fields: Any) -> router_pb2.Query:
    return router_pb2.Query(item_id=item_id, name=name, **fields)


@pytest.fixture
async def filled(unstarted: Mesh) -> Mesh:
    """Five images in two spaces, each with an encoder of its own; the last item has a vector in one of them alone."""
    unstarted.encoders.append(FakeEncoder(OTHER_SPACE))
    mesh = await unstarted.start()
    mesh.search.make("both", ("image", SPACE), ("second", OTHER_SPACE))
    await mesh.ingest(*(item(f"p{n}", id=f"id{n}") for n in range(5)), collection="both")
    del mesh.stored("both")["id4"].vectors["second"]
    for encoder in mesh.encoders:
        encoder.images.clear()
    return mesh


async def test_queries_of_all_kinds_become_legs(filled: Mesh) -> None:
    asked = search(
        text("p3", weight=2),
        image(b"p1", weight=-0.5),
        text("p2", name="other", space="second"),
        like("id0", space="second"),
        router_pb2.Query(embedding=vector(b"p1", SPACE), name="vector"),
        router_pb2.Query(caption_text="p2", name="words", text_fields=["title"]),
        fusion=search_pb2.Fusion(rrf_k=7),
        group_by=search_pb2.GroupBy(fields=["a"], size=2),
        diversity=search_pb2.Diversity(strength=0.25),
        partial=True,
    )
    answer = await filled.router.Search(asked)
    seen = filled.search.searches[-1]
    assert [(leg.name, leg.space, leg.weight, leg.WhichOneof("query")) for leg in seen.legs] == [
        ("text", "image", 2, "embedding"),
        ("image", "image", -0.5, "embedding"),
        ("other", "second", 0, "embedding"),
        ("like", "second", 0, "item_id"),
        ("vector", "", 0, "embedding"),
        ("words", "", 0, "caption_text"),
    ]
    assert [leg.embedding.space_id for leg in seen.legs][:3] == [SPACE.id, SPACE.id, OTHER_SPACE.id]
    assert (seen.legs[-1].caption_text, list(seen.legs[-1].text_fields)) == ("p2", ["title"])
    assert (seen.fusion, seen.group_by, seen.diversity, seen.partial) == (
        asked.fusion,
        asked.group_by,
        asked.diversity,
        True,
    )
    assert not answer.failed_queries
    assert {leg.name for leg in answer.hits[0].legs} == {"text", "image", "other", "like", "vector", "words"}


async def test_spaces_are_encoded_at_the_same_time(filled: Mesh) -> None:
    for encoder in filled.encoders:
        encoder.faults.gate = asyncio.Event()
    asked = search(text("p1"), text("p2", name="b"), image(b"p3"), text("p4", name="d", space="second"))
    call = asyncio.ensure_future(filled.router.Search(asked))

    async def all_are_asked() -> bool:
        return [encoder.faults.in_flight for encoder in filled.encoders] == [2, 1]

    await until(all_are_asked)
    for encoder in filled.encoders:
        assert encoder.faults.gate is not None
        encoder.faults.gate.set()
    assert (await call).hits
    assert [encoder.texts for encoder in filled.encoders] == [["p1", "p2"], ["p4"]]


BAD: dict[str, tuple[router_pb2.SearchRequest, str]] = {
    "no name": (search(text("a", name=""), image(b"b", name="")), "queries[1].name"),
    "one name": (search(text("a"), image(b"b"), text("c")), "queries[2].name"),
    "weight": (search(text("a"), image(b"b", weight=float("nan"))), "queries[1].weight"),
    "only away": (search(text("a", weight=-1), image(b"b", weight=-1)), "queries[0].weight"),
    "nothing": (search(text("a"), router_pb2.Query(name="b")), "queries[1]"),
}


@pytest.mark.parametrize("name", sorted(BAD))
async def test_a_bad_query_is_refused_before_anything_is_encoded(filled: Mesh, name: str) -> None:
    request, path = BAD[name]
    request.partial = True
    error = await error_of(filled.router.Search(request))
    assert isinstance(error, InvalidInput)
    assert (error.reason, error.violations[0].field) == (Reason.QUERY_INVALID, path)
    batch = await filled.router.BatchSearch(router_pb2.BatchSearchRequest(searches=[request]))
    assert from_status(batch.results[0].error).violations[0].field == f"searches[0].{path}"
    assert not filled.encoder.texts


async def test_without_an_encoder_the_others_answer_where_that_is_allowed(filled: Mesh) -> None:
    filled.encoders[1].faults.fail_always = GONE
    queries = text("p1", name="gone", space="second"), text("p3"), like("id4", space="second")
    error = await error_of(filled.router.Search(search(*queries[:2])))
    assert error.reason is Reason.SPACE_NOT_SERVED
    asked = search(*queries[:2], partial=True)
    answer = await filled.router.Search(asked)
    [failed] = answer.failed_queries
    assert failed.name == "gone"
    assert from_status(failed.error).reason is error.reason
    # The score is a fused one still.
    assert (answer.hits[0].item.id, answer.hits[0].score) == ("id3", pytest.approx(1 / 61))
    # What the store leaves out is named too, each by its own name and path.
    answer = await filled.router.Search(search(*queries, partial=True))
    assert [failed.name for failed in answer.failed_queries] == ["gone", "like"]
    by_store = from_status(answer.failed_queries[1].error)
    assert by_store.reason is Reason.ITEM_WITHOUT_VECTOR
    assert by_store.violations[0].field == "queries[2].item_id"
    batch = await filled.router.BatchSearch(
        router_pb2.BatchSearchRequest(searches=[search(text("p2")), asked, search(*queries[:2])])
    )
    first, second, third = batch.results
    assert first.response.hits[0].item.id == "id2"
    assert [failed.name for failed in second.response.failed_queries] == ["gone"]
    assert from_status(third.error).reason is error.reason


async def test_an_encoder_that_is_gone(filled: Mesh) -> None:
    await filled.host(filled.encoders[1]).kill()
    answer = await filled.router.Search(search(text("p3"), text("p1", name="gone", space="second"), partial=True))
    assert [failed.name for failed in answer.failed_queries] == ["gone"]
    assert from_status(answer.failed_queries[0].error).reason is Reason.ENCODER_UNAVAILABLE
    assert answer.hits[0].item.id == "id3"


async def test_an_encoder_that_hangs_leaves_time_for_the_others(filled: Mesh) -> None:
    filled.encoders[1].faults.gate = gate = asyncio.Event()
    asked = search(text("p1", name="hangs", space="second"), text("p3"), like("id2", space="second"), partial=True)
    words = search(text("p1", name="hangs", space="second"), router_pb2.Query(embedding=vector(b"p3", SPACE)))
    words.queries[1].name = "vector"
    words.partial = True
    batch = router_pb2.BatchSearchRequest(searches=[asked, words, search(text("p2"))])
    try:
        answer, answers = await asyncio.gather(
            filled.router.Search(asked, timeout=3), filled.router.BatchSearch(batch, timeout=3)
        )
        first, second, third = (result.response for result in answers.results)
        for found in (answer, first, second):
            [failed] = found.failed_queries
            assert failed.name == "hangs"
            error = from_status(failed.error)
            assert error.reason is Reason.ENCODER_UNAVAILABLE
            assert "half of the time" in error.message
            assert "id3" in [hit.item.id for hit in found.hits]
        assert (third.hits[0].item.id, len(third.failed_queries)) == ("id2", 0)
        # Nobody waits for what hangs any longer.
        await until(lambda: not filled.encoders[1].faults.in_flight)
    finally:
        gate.set()


@pytest.mark.parametrize(
    ("queries", "is_spared"),
    [
        ([text("a"), like("id")], True),
        ([text("a"), image(b"a")], True),
        ([text("a"), text("b", space="second")], True),
        ([text("a"), text("b")], False),
        ([text("a"), like("id", weight=-1)], False),
        ([text("a")], False),
    ],
)
def test_what_nothing_can_be_answered_without_may_take_all_time(
    queries: list[router_pb2.Query], is_spared: bool
) -> None:
    for partial in (True, False):
        work = SearchWork(search(*queries, partial=partial), "both", "")
        assert work.to_encode[0].may_be_left_out == (is_spared and partial)


async def test_some_query_must_find_something(filled: Mesh) -> None:
    filled.encoders[1].faults.fail_always = GONE
    for queries in ([text("p1", space="second")], [text("p1", space="second"), image(b"p2", weight=-1)]):
        error = await error_of(filled.router.Search(search(*queries, partial=True)))
        assert error.reason is Reason.SPACE_NOT_SERVED


async def test_what_a_caller_did_wrong_is_never_left_out(filled: Mesh) -> None:
    for query, reason in (
        (image(b"bad"), Reason.IMAGE_UNDECODABLE),
        (text("", name="empty"), Reason.TEXT_EMPTY),
        (like("nobody"), Reason.ITEM_NOT_FOUND),
        (text("a", name="b", space="nose"), Reason.SPACE_UNKNOWN),
    ):
        error = await error_of(filled.router.Search(search(text("p1"), query, partial=True)))
        assert error.reason is reason
        assert error.violations[0].field.startswith("queries[1].")


async def test_a_model_that_fails_on_one_query(filled: Mesh) -> None:
    filled.encoder.item_errors[b"p1"] = [InternalFault(Reason.MODEL_FAILED, "broken")]
    answer = await filled.router.Search(search(text("p2"), image(b"p1"), partial=True))
    assert [failed.name for failed in answer.failed_queries] == ["image"]
    assert answer.hits[0].item.id == "id2"


async def test_the_stores_paths_are_led_back_past_queries_that_were_left_out(filled: Mesh) -> None:
    filled.encoders[1].faults.fail_always = GONE
    wrong = router_pb2.Query(embedding=vector(b"a", OTHER_SPACE), name="wrong")
    asked = search(text("p1", space="second"), text("p2", name="b"), wrong, partial=True)
    error = await error_of(filled.router.Search(asked))
    assert isinstance(error, PreconditionFailed)
    assert error.violations[0].field == "queries[2].embedding"
    assert "queries[2]" in error.message
