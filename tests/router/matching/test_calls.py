"""MatchImages before fake services: what is asked of them, what is refused, and what becomes of their faults."""

import asyncio
from typing import Any

import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, NotFound, Overloaded, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from tests.router.conftest import Mesh
from tests.router.fakes import OTHER_SPACE, SPACE, FakeEncoder, FakeSearch, vector
from tests.router.helpers import error_of
from tests.support.waiting import until

MATCH = router_pb2.MATCH_VERDICT_MATCH
ID_ONLY = search_pb2.ReadOptions(view=search_pb2.ITEM_VIEW_ID)


def asking(*contents: bytes, **fields: Any) -> router_pb2.MatchImagesRequest:
    fields.setdefault("collection", "shown")
    return router_pb2.MatchImagesRequest(
        images=[common_pb2.Image(content=content) for content in contents or (b"a",)], **fields
    )


def stored(item_id: str, content: bytes, **fields: Any) -> search_pb2.Item:
    item = search_pb2.Item(id=item_id, **fields)
    item.vectors["image"].CopyFrom(vector(content, SPACE))
    return item


def fill(mesh: Mesh) -> None:
    """Three items without hashes, which have the vectors of the images a, b and c."""
    mesh.search.make("shown", ("image", SPACE))
    mesh.search.items["shown"] = {name: stored(name, name.encode()) for name in "abc"}


@pytest.fixture
async def filled(mesh: Mesh) -> Mesh:
    """A mesh with these items."""
    fill(mesh)
    return mesh


async def test_what_the_services_are_asked_for(filled: Mesh) -> None:
    only = search_pb2.Filter(condition=search_pb2.Condition(field="year", exists=True))
    request = asking(
        b"a", b"b", entry_fields=["artist", "entry"], candidates=7, filter=only, priority=common_pb2.PRIORITY_BULK
    )
    answer = await filled.router.MatchImages(request)
    assert [result.match.best.item.id for result in answer.results] == ["a", "b"]
    [options] = filled.encoder.options
    assert (options.priority, options.space_id, options.perceptual_hash) == (common_pb2.PRIORITY_BULK, SPACE.id, True)
    assert [[leg.name for leg in search.legs] for search in filled.search.searches] == [["vector"], ["hash"]] * 2
    for search in filled.search.searches:
        assert (search.limit, search.filter, search.read.view) == (7, only, search_pb2.ITEM_VIEW_ID)
        assert [*search.group_by.fields] == ["artist", "entry"]
        assert search.group_by.size == 3


async def test_many_images_are_answered_in_order_by_calls_of_bounded_size(filled: Mesh) -> None:
    contents = [f"n{number}".encode() for number in range(70)]
    filled.search.items["shown"] = {content.decode(): stored(content.decode(), content) for content in contents}
    answer = await filled.router.MatchImages(asking(*contents, candidates=100, read=ID_ONLY))
    assert [result.match.best.item.id for result in answer.results] == [content.decode() for content in contents]
    assert max(filled.encoder.faults.calls) <= 16
    assert max(filled.search.faults.calls) <= 64


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"images": []}, Reason.NO_ITEMS, "images"),
        ({"images": [common_pb2.Image(content=b"x")] * 257}, Reason.TOO_MANY_ITEMS, "images"),
        ({"entry_fields": ["a", "b", "c", "d", "e"]}, Reason.QUERY_INVALID, "entry_fields"),
        ({"entry_fields": ["a", "a"]}, Reason.QUERY_INVALID, "entry_fields[1]"),
        ({"entry_fields": ["a", ""]}, Reason.QUERY_INVALID, "entry_fields[1]"),
        ({"candidates": 101}, Reason.LIMIT_OUT_OF_RANGE, "candidates"),
        ({"alternatives": 11}, Reason.LIMIT_OUT_OF_RANGE, "alternatives"),
        ({"priority": 9}, Reason.OPTION_INVALID, "priority"),
        ({"thresholds": {"match": float("nan")}}, Reason.OPTION_INVALID, "thresholds.match"),
        ({"thresholds": {"match": 1.5}}, Reason.OPTION_INVALID, "thresholds.match"),
        ({"thresholds": {"unsure": -0.1}}, Reason.OPTION_INVALID, "thresholds.unsure"),
        ({"thresholds": {"match": 0.5, "unsure": 0.6}}, Reason.OPTION_INVALID, "thresholds.unsure"),
        ({"thresholds": {"unsure": 0.9}}, Reason.OPTION_INVALID, "thresholds.unsure"),
        ({"space": "other"}, Reason.SPACE_UNKNOWN, "space"),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    filled: Mesh, fields: dict[str, Any], reason: Reason, field: str
) -> None:
    given: dict[str, Any] = {"collection": "shown", "images": [common_pb2.Image(content=b"a")]} | fields
    error = await error_of(filled.router.MatchImages(router_pb2.MatchImagesRequest(**given)))
    assert isinstance(error, InvalidInput)
    assert (error.reason, error.violations[0].field) == (reason, field)
    assert filled.encoder.images == []


class Refusing(FakeSearch):
    """A store that refuses every filter, as the real one does one that cannot be."""

    def _search(self, request: search_pb2.SearchRequest) -> search_pb2.SearchResponse:
        raise InvalidInput(Reason.FILTER_INVALID, "filter.condition has no test", field="filter.condition")


async def test_a_filter_that_cannot_be_is_refused_for_all_images_at_once(unstarted: Mesh) -> None:
    unstarted.search = Refusing()
    fill(unstarted)
    await unstarted.start()
    error = await error_of(unstarted.router.MatchImages(asking(b"a", b"b")))
    assert (error.reason, error.violations[0].field) == (Reason.FILTER_INVALID, "filter.condition")


class TakesFew(FakeSearch):
    """A store that refuses calls of several searches or items, for another reason each time."""

    refusals = (Reason.FILTER_INVALID, Reason.RESPONSE_TOO_LARGE, Reason.TOO_MANY_ITEMS)

    def _refuse(self, count: int) -> None:
        if count > 1:
            raise InvalidInput(self.refusals[count % len(self.refusals)], "too much in one call", field="limit")

    async def BatchSearch(self, request: search_pb2.BatchSearchRequest, context: Any) -> Any:
        self._refuse(len(request.searches))
        return await super().BatchSearch(request, context)

    async def GetItems(self, request: search_pb2.GetItemsRequest, context: Any) -> Any:
        self._refuse(len(request.ids))
        return await super().GetItems(request, context)


async def test_a_call_that_the_store_takes_only_in_parts_is_cut(unstarted: Mesh) -> None:
    unstarted.search = TakesFew()
    fill(unstarted)
    await unstarted.start()
    answer = await unstarted.router.MatchImages(asking(b"a", b"b", b"c", alternatives=1))
    assert [result.match.best.item.id for result in answer.results] == ["a", "b", "c"]


async def test_an_unknown_collection_and_a_space_that_nobody_serves(filled: Mesh) -> None:
    error = await error_of(filled.router.MatchImages(asking(b"a", collection="nowhere")))
    assert isinstance(error, NotFound)
    assert error.reason is Reason.COLLECTION_NOT_FOUND
    filled.search.make("strange", ("image", OTHER_SPACE))
    error = await error_of(filled.router.MatchImages(asking(b"a", collection="strange")))
    assert isinstance(error, PreconditionFailed)
    assert error.reason is Reason.SPACE_NOT_SERVED


async def test_the_first_space_that_is_served_is_taken(filled: Mesh) -> None:
    filled.search.make("both", ("theirs", OTHER_SPACE), ("ours", SPACE))
    item = search_pb2.Item(id="x")
    item.vectors["ours"].CopyFrom(vector(b"x", SPACE))
    filled.search.items["both"] = {"x": item}
    [result] = (await filled.router.MatchImages(asking(b"x", collection="both"))).results
    assert result.match.best.item.id == "x"
    assert {search.legs[0].space for search in filled.search.searches if search.legs[0].name == "vector"} == {"ours"}


async def test_thresholds_decide_and_a_match_below_the_default_takes_unsure_along(filled: Mesh) -> None:
    filled.search.items["shown"] = {"far": stored("far", b"z")}
    [result] = (await filled.router.MatchImages(asking(b"a"))).results
    assert result.match.verdict == router_pb2.MATCH_VERDICT_NO_MATCH
    [result] = (await filled.router.MatchImages(asking(b"a", thresholds={"match": 0.0}))).results
    assert result.match.verdict == MATCH
    low = {"match": 1.0, "unsure": 0.0}
    [result] = (await filled.router.MatchImages(asking(b"a", thresholds=low))).results
    assert result.match.verdict == router_pb2.MATCH_VERDICT_UNSURE


async def test_an_image_of_one_colour_matches_nothing_by_its_vector(filled: Mesh) -> None:
    filled.search.items["shown"] = {"plain": stored("plain", b"plain white")}
    [result] = (await filled.router.MatchImages(asking(b"plain white"))).results
    assert result.match.best.cosine == pytest.approx(1)
    assert (result.match.verdict, result.match.best.confidence) == (router_pb2.MATCH_VERDICT_NO_MATCH, 0)


async def test_an_encoder_that_makes_no_hashes_leaves_the_vectors(filled: Mesh) -> None:
    filled.encoder.makes_hashes = False
    [result] = (await filled.router.MatchImages(asking(b"a"))).results
    assert result.match.best.item.id == "a"
    assert [search.legs[0].name for search in filled.search.searches] == ["vector"]


class Deleting(FakeSearch):
    """A store in which somebody deletes an item between the search and the look at it."""

    async def GetItems(self, request: search_pb2.GetItemsRequest, context: Any) -> Any:
        self.items["shown"].pop("a", None)
        return await super().GetItems(request, context)


async def test_an_item_that_is_gone_by_now_is_not_told_of(unstarted: Mesh) -> None:
    unstarted.search = Deleting()
    fill(unstarted)
    await unstarted.start()
    [result] = (await unstarted.router.MatchImages(asking(b"a", alternatives=5))).results
    ids = [result.match.best.item.id, *(each.item.id for each in result.match.alternatives)]
    assert sorted(ids) == ["b", "c"]


async def test_a_collection_that_was_made_anew_is_looked_at_again(unstarted: Mesh) -> None:
    unstarted.encoders = [FakeEncoder(SPACE, OTHER_SPACE)]
    mesh = await unstarted.start(collection_cache_seconds=60)
    mesh.search.make("shown", ("image", OTHER_SPACE))
    assert (await mesh.router.MatchImages(asking(b"a"))).results[0].match.verdict
    mesh.search.make("shown", ("image", SPACE))
    mesh.search.items["shown"] = {"a": stored("a", b"a")}
    [result] = (await mesh.router.MatchImages(asking(b"a"))).results
    assert result.match.best.item.id == "a"


@pytest.mark.parametrize("kind", ["encoder", "search"])
async def test_a_service_that_is_full_refuses_the_call(filled: Mesh, kind: str) -> None:
    await filled.router.MatchImages(asking(b"a"))
    getattr(filled, kind).faults.fail_always = Overloaded(Reason.OVERLOADED, "full", retry_after_s=2)
    error = await error_of(filled.router.MatchImages(asking(b"b")))
    assert (error.reason, error.retry_after_s) == (Reason.OVERLOADED, 2)


async def test_the_deadline_and_the_caller_that_leaves_end_the_work(filled: Mesh) -> None:
    filled.search.faults.gate = asyncio.Event()
    call = filled.router.MatchImages(asking(b"a"), timeout=30)
    await until(lambda: filled.search.faults.in_flight > 0)
    call.cancel()
    await until(lambda: filled.search.faults.in_flight == 0)
    error = await error_of(filled.router.MatchImages(asking(b"a"), timeout=0.3))
    assert error.reason is Reason.DEADLINE_EXCEEDED


async def test_an_answer_beyond_the_limit_of_messages_is_refused(unstarted: Mesh) -> None:
    mesh = await unstarted.start(max_message_bytes=200_000)
    mesh.search.make("shown", ("image", SPACE))
    for name in "abc":
        item = stored(name, name.encode())
        item.metadata["text"] = "x" * 60_000
        mesh.search.items.setdefault("shown", {})[name] = item
    images = [b"a", b"b", b"c", b"d"]
    error = await error_of(mesh.router.MatchImages(asking(*images)))
    assert error.reason is Reason.RESPONSE_TOO_LARGE
    assert (await mesh.router.MatchImages(asking(*images, read=ID_ONLY))).results[0].match.best.item.id == "a"


async def test_images_fail_alone(filled: Mesh) -> None:
    filled.encoder.item_errors[b"c"] = [InvalidInput(Reason.IMAGE_TRUNCATED, "images[0].content ends early")]
    answer = await filled.router.MatchImages(asking(b"a", b"bad one", b"c", b"b"))
    errors = [from_status(result.error).reason if result.HasField("error") else None for result in answer.results]
    assert errors == [None, Reason.IMAGE_UNDECODABLE, Reason.IMAGE_TRUNCATED, None]
