"""Images by REST: made findable, listed, shown, removed; their media."""

import base64
import json
from typing import Any

import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import NotFound, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from tests.http.conftest import Door
from tests.http.rest.answers import DIGEST, PNG, STATUS, item


def ingested(outcome: search_pb2.UpsertOutcome.ValueType, **more: Any) -> router_pb2.IngestResponse:
    """Return the answer to an ingest."""
    return router_pb2.IngestResponse(item=router_pb2.IngestedItem(id="a/b", outcome=outcome, store_us=3000, **more))


def files(*extra: tuple[str, Any]) -> list[tuple[str, Any]]:
    """Return a body of parts with one file."""
    return [("file", ("ü.png", PNG, "image/png")), *extra]


async def test_a_file_is_ingested_with_what_comes_with_it(door: Door) -> None:
    made = ingested(search_pb2.UPSERT_OUTCOME_CREATED, encode=common_pb2.Timings(total_us=2000))
    door.router.answers |= {
        "GetStatus": STATUS,
        "Ingest": made,
        "GetItems": search_pb2.GetItemsResponse(items=[item("a/b", artist="Monet")]),
    }
    more = [("id", (None, "a/b")), ("caption", (None, "a ✓")), ("metadata", (None, '{"artist": "Monet"}'))]
    answer = await door.client.post("/v1/images", files=files(*more, ("captions", (None, "none"))))
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == "/v1/images/a%2Fb"
    shown = answer.json()
    assert (shown["outcome"], shown["encode_ms"], shown["store_ms"]) == ("created", 2, 3)
    assert (shown["image"]["id"], shown["image"]["metadata"]) == ("a/b", {"artist": "Monet"})
    request = door.router.requests["Ingest"][-1]
    assert (request.item.id, request.item.caption, request.item.image.content) == ("a/b", "a ✓", PNG)
    assert dict(request.item.metadata) == {"artist": "Monet"}
    assert request.options.captions == router_pb2.CAPTION_POLICY_NONE
    assert door.router.requests["GetItems"][-1].collection == "main"


async def test_json_is_ingested_by_bytes_or_by_address(door: Door) -> None:
    near = router_pb2.NearDuplicate(id="other", distance=4)
    tags = [encoder_pb2.LabelScore(label="cat", probability=0.5)]
    door.router.answers["Ingest"] = ingested(search_pb2.UPSERT_OUTCOME_SKIPPED, near_duplicate=near, tags=tags)
    body = {"base64": base64.b64encode(PNG).decode(), "near_duplicates": "skip", "collection": "c"}
    answer = await door.client.post("/v1/images", json=body)
    shown = answer.json()
    assert (answer.status_code, shown["outcome"], shown["image"]) == (200, "skipped", None)
    assert shown["near_duplicate"] == {"id": "other", "distance": 4}
    assert shown["tags"] == [{"label": "cat", "probability": 0.5}]
    assert door.router.requests["Ingest"][-1].options.collection == "c"
    await door.client.post("/v1/images", json={"url": "https://example.org/a.png", "image_uri": "s3://b/a"})
    sent = door.router.requests["Ingest"][-1].item
    assert (sent.image.uri, sent.image_uri) == ("https://example.org/a.png", "s3://b/a")


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ([("file", ("b.png", PNG, "image/png"))], "file"),
        ([("colour", (None, "red"))], "colour"),
        ([("id", (None, "a")), ("id", (None, "b"))], "id"),
        ([("metadata", (None, "{"))], "body"),
        ([("metadata", (None, "[1]"))], "metadata"),
        ([("caption", (None, b"\xff"))], "caption"),
        ([("captions", (None, "perhaps"))], "captions"),
    ],
)
async def test_parts_that_do_not_fit_are_named(door: Door, extra: list[Any], field: str) -> None:
    answer = await door.client.post("/v1/images", files=files(*extra))
    assert (answer.status_code, answer.json()["error"]["fields"][0]["field"]) == (400, field), answer.text
    assert "Ingest" not in door.router.requests


async def test_no_path_of_the_door_is_ever_read(door: Door) -> None:
    """A text is no file: neither as an image, nor as an id."""
    answer = await door.client.post("/v1/images", json={"base64": "/etc/passwd"})
    assert answer.status_code == 400
    await door.client.post("/v1/images", json={"url": "/etc/passwd"})
    assert door.router.requests["Ingest"][-1].item.image.WhichOneof("source") == "uri"


async def test_a_page_of_images(door: Door) -> None:
    door.router.answers |= {
        "GetStatus": STATUS,
        "ListItems": search_pb2.ListItemsResponse(items=[item("a"), item("b")], next_page_token="t2"),
        "Aggregate": search_pb2.AggregateResponse(item_count=7),
    }
    query: dict[str, str | int] = {"page_size": 2, "page_token": "t1", "filter": "n>3", "total": "true"}
    shown = (await door.client.get("/v1/images", params=query)).json()
    assert [each["id"] for each in shown["images"]] == ["a", "b"]
    assert (shown["next_page_token"], shown["total"]) == ("t2", 7)
    request = door.router.requests["ListItems"][-1]
    assert (request.collection, request.page_size, request.page_token) == ("main", 2, "t1")
    assert request.filter == door.router.requests["Aggregate"][-1].filter


@pytest.mark.parametrize(
    ("sent", "image_id"),
    [
        ("a%2Fb", "a/b"),
        ("100%25", "100%"),
        ("what%3F", "what?"),
        ("%E2%9C%93", "✓"),
        ("..%2F..%2Fx", "../../x"),
        ("a%20b", "a b"),
    ],
)
async def test_an_image_by_any_id(door: Door, sent: str, image_id: str) -> None:
    door.router.answers["GetItems"] = search_pb2.GetItemsResponse(items=[item(image_id)])
    answer = await door.client.get(f"/v1/images/{sent}", params={"collection": "c"})
    assert (answer.status_code, answer.json()["id"]) == (200, image_id)
    assert list(door.router.requests["GetItems"][-1].ids) == [image_id]
    door.router.answers["DeleteItems"] = search_pb2.DeleteItemsResponse(deleted_count=1)
    gone = await door.client.delete(f"/v1/images/{sent}", params={"collection": "c"})
    assert (gone.status_code, gone.content) == (204, b"")
    assert list(door.router.requests["DeleteItems"][-1].ids.ids) == [image_id]


async def test_an_image_that_is_not_there(door: Door) -> None:
    for answer in (
        await door.client.get("/v1/images/x?collection=c"),
        await door.client.delete("/v1/images/x?collection=c"),
    ):
        assert (answer.status_code, answer.json()["error"]["reason"]) == (404, "ITEM_NOT_FOUND")
    broken = await door.client.get("/v1/images/%FF")
    assert (broken.status_code, broken.json()["error"]["reason"]) == (400, "TEXT_INVALID")


async def test_an_address_names_the_methods_that_it_takes(door: Door) -> None:
    answer = await door.client.request("PUT", "/v1/images/x")
    assert answer.status_code == 405
    assert sorted(answer.headers["allow"].split(", ")) == ["DELETE", "GET", "HEAD"]
    assert (await door.client.request("POST", "/v1/images/x/thumbnail")).status_code == 405
    assert (await door.client.get("/v1/images/a/b")).status_code == 404
    assert (await door.client.head("/v1/images/x?collection=c")).status_code == 404


async def test_media_are_kept_by_digest(door: Door) -> None:
    door.router.answers |= {
        "GetStatus": STATUS,
        "GetItems": search_pb2.GetItemsResponse(items=[item("a")]),
        "GetImage": router_pb2.GetImageResponse(content=b"webp", media_type="image/webp"),
    }
    moved = await door.client.get("/v1/images/a/thumbnail")
    assert (moved.status_code, moved.headers["location"]) == (302, f"/v1/thumbnails/{DIGEST.hex()}.webp")
    answer = await door.client.get(moved.headers["location"])
    assert (answer.content, answer.headers["content-type"]) == (b"webp", "image/webp")
    assert "immutable" in answer.headers["cache-control"]
    assert door.router.requests["GetImage"][-1].content_digest == DIGEST
    again = await door.client.get(moved.headers["location"], headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    await door.client.get(f"/v1/originals/{DIGEST.hex()}")
    assert door.router.requests["GetImage"][-1].form == router_pb2.IMAGE_FORM_ORIGINAL


@pytest.mark.parametrize("digest", ["0" * 64, "x", "..%2F..%2Fetc", "A" * 64])
async def test_a_guessed_thumbnail_is_not_there(door: Door, digest: str) -> None:
    door.router.answers["GetImage"] = NotFound(Reason.MEDIA_NOT_FOUND, "none")
    answer = await door.client.get(f"/v1/thumbnails/{digest}.webp")
    assert (answer.status_code, answer.json()["error"]["reason"]) == (404, "MEDIA_NOT_FOUND")
    door.router.answers["GetImage"] = PreconditionFailed(Reason.MEDIA_NOT_KEPT, "none")
    assert (await door.client.get(f"/v1/originals/{digest}")).status_code == 404


async def test_links_are_left_out_where_nothing_is_kept(door: Door) -> None:
    door.router.answers["GetItems"] = search_pb2.GetItemsResponse(items=[item("a")])
    shown = (await door.client.get("/v1/images/a", params={"collection": "c"})).json()
    assert (shown["thumbnail"], shown["original"]) == (None, None)
    assert (await door.client.get("/v1/images/a/thumbnail?collection=c")).status_code == 404


async def test_hostile_text_stays_text(door: Door) -> None:
    hostile = "<script>alert(1)</script>\x1b[31m"
    found = item("a", note=hostile)
    found.caption.text = hostile
    door.router.answers["GetItems"] = search_pb2.GetItemsResponse(items=[found])
    answer = await door.client.get("/v1/images/a?collection=c")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert json.loads(answer.content)["caption"] == hostile
