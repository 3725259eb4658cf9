"""The addresses of Arthur image recognition: what is asked of the router, and what these clients read."""

import json
from typing import Any

import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, PreconditionFailed, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status
from tests.http.compat.arthur_images import NO_COLLECTION, item
from tests.http.conftest import Door

IMAGE = {"imgFile": ("a.png", b"an image", "image/png")}
URL = {"imgUrl": "https://example.org/a.jpg"}


def candidate(confidence: float, *names: str) -> router_pb2.MatchCandidate:
    """A candidate of a match."""
    return router_pb2.MatchCandidate(item=item(*names), confidence=confidence)


def matched(verdict: router_pb2.MatchVerdict.ValueType, *found: router_pb2.MatchCandidate) -> Any:
    """The answer to one image."""
    match = router_pb2.ImageMatch(verdict=verdict, best=found[0] if found else None, alternatives=found[1:])
    return router_pb2.MatchImagesResponse(results=[router_pb2.MatchResult(match=match)])


def mesh_with_encoder(door: Door, kind: common_pb2.LocalFeatureKind.ValueType) -> None:
    """Have the router tell an encoder, and no collection."""
    space = common_pb2.VectorSpace(id="vs1-a", model="m", dimension=4)
    door.router.answers["GetCollection"] = NO_COLLECTION
    door.router.answers["GetInfo"] = encoder_pb2.GetInfoResponse(
        models=[encoder_pb2.ServedModel(spaces=[space])], local_feature_kind=kind
    )
    door.router.answers["CreateCollection"] = lambda asked: search_pb2.CreateCollectionResponse(
        collection=asked.collection
    )


async def test_a_match_is_told_with_the_unsure_ones_behind(door: Door) -> None:
    door.router.answers["MatchImages"] = matched(
        router_pb2.MATCH_VERDICT_MATCH,
        candidate(0.95, "monet", "lilies", "front"),
        candidate(0.61, "manet", "garden", "1"),
        candidate(0.3, "other", "x", "1"),
    )
    answer = await door.client.post("/match", json=URL)
    assert answer.status_code == 200
    assert answer.json() == {
        "matches": [
            {"artistId": "monet", "entryId": "lilies", "viewId": "front", "score": "0.95"},
            {"artistId": "manet", "entryId": "garden", "viewId": "1", "score": "0.61"},
        ],
        "status": "success",
        "message": "Matched",
        "verdict": "match",
    }
    (asked,) = door.router.requests["MatchImages"]
    assert (asked.collection, list(asked.entry_fields)) == ("arthur", ["artist", "entry"])
    assert asked.images[0].uri == URL["imgUrl"]
    assert not asked.HasField("filter")


async def test_a_file_is_matched_among_one_artists_works(door: Door) -> None:
    door.router.answers["MatchImages"] = matched(router_pb2.MATCH_VERDICT_UNSURE, candidate(0.55, "a/b", "e", "v"))
    answer = await door.client.post("/match/a%2Fb", files=IMAGE)
    assert answer.json()["matches"] == [{"artistId": "a/b", "entryId": "e", "viewId": "v", "score": "0.55"}]
    assert answer.json()["verdict"] == "unsure"
    (asked,) = door.router.requests["MatchImages"]
    assert asked.images[0].content == b"an image"
    assert (asked.filter.condition.field, asked.filter.condition.equals.string_value) == ("artist", "a/b")


async def test_what_is_not_there_is_an_answer(door: Door) -> None:
    no_match = matched(router_pb2.MATCH_VERDICT_NO_MATCH, candidate(0.9, "a", "e", "v"))
    for told in (no_match, matched(router_pb2.MATCH_VERDICT_NO_MATCH), NO_COLLECTION):
        door.router.answers["MatchImages"] = told
        answer = await door.client.post("/match", json=URL)
        assert (answer.status_code, answer.json()["matches"]) == (200, [])
        assert answer.json()["message"] == "No match found"


async def test_a_request_without_an_image_is_refused(door: Door) -> None:
    sent: list[dict[str, Any]] = [
        {},
        {"json": {}},
        {"json": {"imgUrl": ""}},
        {"json": {"imgUrl": 3}},
        {"json": {"imgUrl": "not an address"}},
        {"json": []},
        {"files": {"other": ("a.png", b"x")}},
        {"files": {"imgFile": ("a.png", b"")}},
        {"content": b"imgFile", "headers": {"content-type": "text/plain"}},
        {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}},
        {"content": b"\xff=1", "headers": {"content-type": "application/x-www-form-urlencoded"}},
        {"content": b"a=1&" * 40, "headers": {"content-type": "application/x-www-form-urlencoded"}},
    ]
    for path in ("/match", "/match/a", "/artist/image/a/e/v"):
        for each in sent:
            answer = await door.client.post(path, **each)
            assert answer.status_code == 400, each
            assert answer.json()["error"]["fields"], each
    assert door.router.entered == 0


async def test_the_error_of_an_image_is_the_answers(door: Door) -> None:
    error = to_status(InvalidInput(Reason.IMAGE_UNDECODABLE, "no image", field="images[0]"))
    door.router.answers["MatchImages"] = router_pb2.MatchImagesResponse(results=[router_pb2.MatchResult(error=error)])
    answer = await door.client.post("/match", files=IMAGE)
    assert (answer.status_code, answer.json()["error"]["reason"]) == (400, "IMAGE_UNDECODABLE")


@pytest.mark.parametrize(
    "sent", [{"files": IMAGE}, {"json": URL}, {"data": URL}, {"data": URL, "files": {"note": ("n.txt", b"n")}}]
)
async def test_an_image_is_added_under_its_names(door: Door, sent: dict[str, Any]) -> None:
    mesh_with_encoder(door, common_pb2.LOCAL_FEATURE_KIND_ORB)
    answer = await door.client.post("/artist/image/Claude%20Monet/50%25/v.1", **sent)
    assert answer.json() == {"status": "success", "message": "Added image Claude Monet/50%/v.1 to index"}
    (made,) = door.router.requests["CreateCollection"]
    fields = {each.field: each.type for each in made.collection.field_indexes}
    assert fields == dict.fromkeys(("artist", "entry", "view"), search_pb2.FIELD_TYPE_KEYWORD)
    assert made.collection.local_features
    assert made.collection.spaces[0].space.id == "vs1-a"
    (asked,) = door.router.requests["Ingest"]
    assert asked.item.id == "Claude Monet.50%25.v%2E1"
    assert dict(asked.item.metadata) == {"artist": "Claude Monet", "entry": "50%", "view": "v.1"}
    assert asked.item.image.WhichOneof("source") == ("content" if sent.get("files") is IMAGE else "uri")
    assert (asked.options.collection, asked.options.HasField("near_duplicates")) == ("arthur", True)


async def test_a_collection_that_is_there_stays_as_it_is(stopped_door: Door) -> None:
    door = await stopped_door.start(arthur_collection="paintings")
    answer = await door.client.post("/artist/image/a/e/v", files=IMAGE)
    assert answer.status_code == 200
    assert "CreateCollection" not in door.router.requests
    assert door.router.requests["GetCollection"][0].name == "paintings"
    assert door.router.requests["Ingest"][0].options.collection == "paintings"


async def test_local_features_are_kept_only_where_encoders_make_them(door: Door) -> None:
    mesh_with_encoder(door, common_pb2.LOCAL_FEATURE_KIND_UNSPECIFIED)
    await door.client.post("/artist/image/a/e/v", files=IMAGE)
    assert not door.router.requests["CreateCollection"][0].collection.local_features
    door.router.answers["GetInfo"] = encoder_pb2.GetInfoResponse()
    answer = await door.client.post("/artist/image/a/e/v", files=IMAGE)
    assert (answer.status_code, answer.json()["error"]["reason"]) == (400, "SPACE_NOT_SERVED")


async def test_names_that_no_id_can_hold_are_named(door: Door) -> None:
    for path, field in (
        ("a/e%0Ax/v", "entry_id"),
        ("a/e/" + "v" * 300, "view_id"),
        ("%25" * 90 + "/e/v", "artist_id"),
        ("%FF/e/v", "artist_id"),
    ):
        for method in ("POST", "DELETE"):
            answer = await door.client.request(method, f"/artist/image/{path}", json=URL)
            assert answer.status_code == 400
            assert answer.json()["error"]["fields"][0]["field"] == field
    assert door.router.entered == 0


async def test_names_with_dots_are_told_apart(door: Door) -> None:
    await door.client.post("/artist/image/a.b/c/d", files=IMAGE)
    await door.client.post("/artist/image/a/b.c/d", files=IMAGE)
    first, second = (asked.item.id for asked in door.router.requests["Ingest"])
    assert first != second


async def test_images_are_added_by_a_list(door: Door) -> None:
    images = [
        {"artistId": "a", "entryId": "e", "viewId": "1", **URL},
        {"artist_id": "a", "entry_id": "e", "view_id": 2, **URL},
    ]
    answer = await door.client.post("/artist/image", json={"images": images})
    assert answer.json() == {"status": "success", "message": "Added 2 images to index"}
    assert sorted(asked.item.id for asked in door.router.requests["Ingest"]) == ["a.e.1", "a.e.2"]
    answer = await door.client.post("/artist/image", json={"images": images[:1]})
    assert answer.json() == {"status": "success", "message": "Added image a/e/1 to index"}


async def test_an_image_of_a_list_fails_alone_unless_all_do(door: Door) -> None:
    fault = InvalidInput(Reason.URI_NOT_ALLOWED, "addresses are not fetched here", field="item.image.uri")
    door.router.answers["Ingest"] = lambda asked: (
        fault if asked.item.metadata["view"] == "2" else router_pb2.IngestResponse()
    )
    images = [{"artistId": "a", "entryId": "e", "viewId": view, **URL} for view in "12"]
    answer = await door.client.post("/artist/image", json={"images": images})
    assert (answer.status_code, answer.json()["status"]) == (200, "partial")
    assert answer.json()["message"] == "Added 1 of 2 images to index"
    (failed,) = answer.json()["failed"]
    assert (failed["index"], failed["image"], failed["error"]["reason"]) == (1, "a/e/2", "URI_NOT_ALLOWED")
    answer = await door.client.post("/artist/image", json={"images": images[1:]})
    assert (answer.status_code, answer.json()["error"]["reason"]) == (400, "URI_NOT_ALLOWED")


async def test_a_wrong_list_is_refused_whole(door: Door) -> None:
    whole: dict[str, Any] = {"artistId": "a", "entryId": "e", "viewId": "v", **URL}
    wrong: list[tuple[Any, str]] = [
        (None, "images"),
        ([], "images"),
        ("a", "images"),
        (["a"], "images[0]"),
        ([{"artistId": "a", "entryId": "e", **URL}], "images[0].viewId"),
        ([whole | {"viewId": ""}], "images[0].viewId"),
        ([whole | {"entryId": ["e"]}], "images[0].entryId"),
        ([whole | {"artistId": "\ud800"}], "images[0].artistId"),
        ([{name: whole[name] for name in whole if name != "imgUrl"}], "images[0].imgUrl"),
        ([whole] * 2, "images[1]"),
        ([{}] * 257, "images"),
    ]
    for images, field in wrong:
        sent = json.dumps({"images": images}).encode()
        answer = await door.client.post("/artist/image", content=sent, headers={"content-type": "application/json"})
        assert answer.status_code == 400, images
        assert answer.json()["error"]["fields"][0]["field"] == field
    assert door.router.entered == 0


async def test_an_image_is_removed_or_told_to_be_missing(door: Door) -> None:
    door.router.answers["DeleteItems"] = search_pb2.DeleteItemsResponse(deleted_count=1)
    answer = await door.client.delete("/artist/image/a/e/v")
    assert answer.json() == {"status": "success", "message": "Removed image a/e/v from index"}
    assert list(door.router.requests["DeleteItems"][0].ids.ids) == ["a.e.v"]
    for missing in (search_pb2.DeleteItemsResponse(), NO_COLLECTION):
        door.router.answers["DeleteItems"] = missing
        assert (await door.client.delete("/artist/image/a/e/v")).status_code == 404


async def test_the_status_counts(door: Door) -> None:
    door.router.answers["Aggregate"] = search_pb2.AggregateResponse(
        item_count=7, results=[search_pb2.AggregationResult(name="artists", distinct_count=3)]
    )
    shown = (await door.client.get("/status")).json()
    assert shown.pop("version")
    assert shown == {
        "status": "running",
        "indexed_artists": 3,
        "total_images": 7,
        "vector_db_status": "connected",
        "database_status": "connected",
    }
    door.router.answers["Aggregate"] = NO_COLLECTION
    shown = (await door.client.get("/status")).json()
    assert (shown["indexed_artists"], shown["total_images"], shown["vector_db_status"]) == (0, 0, "connected")
    door.router.answers["Aggregate"] = PreconditionFailed(Reason.FIELD_NOT_INDEXED, "artist has no index")
    door.router.answers["GetCollection"] = search_pb2.GetCollectionResponse(
        collection=search_pb2.Collection(name="arthur", item_count=5)
    )
    shown = (await door.client.get("/status")).json()
    assert (shown["indexed_artists"], shown["total_images"]) == (None, 5)
    door.router.answers["Aggregate"] = Unavailable(Reason.SEARCH_UNAVAILABLE, "no search service")
    answer = await door.client.get("/status")
    assert (answer.status_code, answer.json()["vector_db_status"]) == (200, "disconnected")


async def test_the_index_is_rebuilt(door: Door) -> None:
    door.router.answers["StartRebuildIndexes"] = search_pb2.StartRebuildIndexesResponse(job=search_pb2.Job(id="job-1"))
    answer = await door.client.post("/unified-index")
    assert answer.json() == {"status": "success", "message": "Index rebuild started", "job_id": "job-1"}
    assert door.router.requests["StartRebuildIndexes"][0].collection == "arthur"


async def test_other_methods_are_refused(door: Door) -> None:
    for path in ("/match", "/match/a", "/artist/image", "/artist/image/a/e/v", "/status", "/unified-index"):
        answer = await door.client.put(path)
        assert (answer.status_code, bool(answer.headers["allow"])) == (405, True)


async def test_pages_of_other_origins_change_nothing(door: Door) -> None:
    answer = await door.client.delete("/artist/image/a/e/v", headers={"origin": "https://evil.example"})
    assert answer.status_code == 403
    assert door.router.entered == 0
