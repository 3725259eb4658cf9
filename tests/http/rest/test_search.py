"""Searching by REST: what becomes of the request, and how the answer looks."""

import base64
import struct
from typing import Any

import pytest
from google.protobuf import struct_pb2

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, Overloaded
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status
from tests.http.conftest import Door
from tests.http.rest.answers import DIGEST, JSON, PNG, STATUS, hits


def asked(door: Door) -> router_pb2.SearchRequest:
    """Return what the router was asked last."""
    request = door.router.requests["Search"][-1]
    assert isinstance(request, router_pb2.SearchRequest)
    return request


async def test_a_text_is_answered_with_images(door: Door) -> None:
    door.router.answers |= {"GetStatus": STATUS, "Search": hits("cats/1 ✓")}
    answer = await door.client.get("/v1/search", params={"q": "a cat", "limit": 3, "min_relevance": 0.25})
    assert answer.status_code == 200
    digest = DIGEST.hex()
    assert answer.json() == {
        "hits": [
            {
                "image": {
                    "id": "cats/1 ✓",
                    "collection": "main",
                    "caption": "a cat",
                    "caption_model": "blip@1",
                    "image_uri": None,
                    "metadata": {"n": 0},
                    "content_digest": digest,
                    "created_at": "2023-11-14T22:13:20.005000Z",
                    "updated_at": None,
                    "thumbnail": f"/v1/thumbnails/{digest}.webp",
                    "original": None,
                },
                "score": 0.5,
                "relevance": None,
                "rank": 1,
                "legs": [],
            }
        ],
        "groups": None,
        "exact": True,
        "encode_ms": 1.5,
        "store_ms": 2.5,
        "failed_queries": [],
    }
    assert asked(door) == router_pb2.SearchRequest(
        queries=[router_pb2.Query(text="a cat")], limit=3, min_relevance=0.25
    )
    again = await door.client.get(
        "/v1/search", params={"q": "a cat"}, headers={"if-none-match": answer.headers["etag"]}
    )
    assert again.status_code == 304


async def test_a_query_string_has_several_queries(door: Door) -> None:
    query = [("q", "x"), ("q", "y"), ("words", "z"), ("like", "cats/1"), ("not", "w"), ("group_by", "a,b.c")]
    query += [
        ("filter", "artist=Monet"),
        ("filter", '{"condition": {"field": "n", "exists": true}}'),
        ("diversity", "0.3"),
    ]
    await door.client.get("/v1/search", params=[*query, ("group_size", "2"), ("offset", "4"), ("partial", "true")])
    request = asked(door)
    assert [(each.name, each.WhichOneof("query"), each.weight) for each in request.queries] == [
        ("text", "text", 0),
        ("text2", "text", 0),
        ("words", "caption_text", 0),
        ("like", "item_id", 0),
        ("not", "text", -1),
    ]
    assert request.group_by == search_pb2.GroupBy(fields=["a", "b.c"], size=2)
    assert [each.condition.field for each in request.filter.all.filters] == ["artist", "n"]
    assert (request.offset, request.partial) == (4, True)
    assert request.diversity.strength == pytest.approx(0.3)


async def test_a_body_has_queries_of_every_kind(door: Door) -> None:
    space = search_pb2.NamedSpace(name="image", space=common_pb2.VectorSpace(id="vs1-x"))
    collection = search_pb2.Collection(name="c", spaces=[space])
    door.router.answers["GetCollection"] = search_pb2.GetCollectionResponse(collection=collection)
    image = {"base64": base64.b64encode(PNG).decode()}
    body = {
        "collection": "c",
        "queries": [
            {"text": "x", "weight": 2},
            {"words": "y", "text_fields": ["$caption"]},
            {"image": image, "by_hash": True},
            {"image": {"url": "https://example.org/x.png"}},
            {"id": "cats/1", "name": "mine"},
            {"vector": [0.5, 1]},
        ],
        "filter": {"condition": {"field": "a", "equals": 1}},
        "fusion": {"method": "weighted"},
        "group_by": {"fields": ["a"]},
        "min_score": 0.1,
    }
    answer = await door.client.post("/v1/search", json=body)
    assert answer.status_code == 200, answer.text
    request = asked(door)
    assert [each.name for each in request.queries] == ["text", "words", "image", "image2", "mine", "vector"]
    assert request.queries[0].weight == 2
    assert request.queries[2].image.content == PNG
    assert request.queries[2].by_hash
    assert request.queries[3].image.uri == "https://example.org/x.png"
    vector = request.queries[5].embedding
    assert (vector.space_id, struct.unpack("<2f", vector.data)) == ("vs1-x", (0.5, 1.0))
    assert request.fusion.method == search_pb2.FUSION_METHOD_WEIGHTED
    assert request.filter.condition.equals.number_value == 1


async def test_a_file_is_a_query(door: Door) -> None:
    files: Any = {"image": ("a.png", PNG, "image/png"), "request": (None, '{"queries": [{"text": "x"}], "limit": 2}')}
    answer = await door.client.post("/v1/search", files=files)
    assert answer.status_code == 200, answer.text
    request = asked(door)
    assert [each.WhichOneof("query") for each in request.queries] == ["text", "image"]
    assert (request.queries[1].image.content, request.limit) == (PNG, 2)


async def test_similar_images_of_an_id_with_any_sign(door: Door) -> None:
    for image_id, sent in (
        ("a/b%?ü", "a%2Fb%25%3F%C3%BC"),
        ("..", "%2E%2E"),
        ("../../etc/passwd", "..%2F..%2Fetc%2Fpasswd"),
    ):
        answer = await door.client.get(f"/v1/similar/{sent}", params={"limit": 2})
        assert answer.status_code == 200
        assert asked(door).queries[0].item_id == image_id


async def test_groups_keep_the_order_of_their_best(door: Door) -> None:
    found = hits("a", "b", "c", "d")
    for hit, artist in zip(found.hits, ("Monet", "Manet", "Monet", None), strict=True):
        if artist:
            hit.group.values.append(struct_pb2.Value(string_value=artist))
    door.router.answers["Search"] = found
    answer = (await door.client.get("/v1/search", params={"q": "x", "group_by": "artist"})).json()
    shown = [(group["values"], [hit["image"]["id"] for hit in group["hits"]]) for group in answer["groups"]]
    assert shown == [({"artist": "Monet"}, ["a", "c"]), ({"artist": "Manet"}, ["b"]), ({}, ["d"])]
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3, 4]


async def test_a_query_that_failed_is_named(door: Door) -> None:
    status = to_status(Overloaded(Reason.OVERLOADED, "busy"))
    failed = [search_pb2.FailedLeg(name="text", error=status)]
    door.router.answers["Search"] = router_pb2.SearchResponse(failed_queries=failed)
    (shown,) = (await door.client.get("/v1/search", params={"q": "x", "partial": "true"})).json()["failed_queries"]
    assert (shown["name"], shown["error"]["reason"], shown["error"]["retry_after_seconds"]) == ("text", "OVERLOADED", 1)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "q"),
        ("q=a&limit=0", "limit"),
        ("q=a&limit=x", "limit"),
        ("q=a&limit=99999999999", "limit"),
        ("q=a&limit=1&limit=2", "limit"),
        ("q=a&min_score=nan", "min_score"),
        ("q=a&min_relevance=2", "min_relevance"),
        ("q=a&colour=red", "colour"),
        ("q=a&filter=%7B", "filter"),
        ("q=a&filter=nonsense", "filter"),
        ("q=%ff", ""),
        ("q=a&filter=" + "%7B%22not%22:" * 1000, "filter"),
    ],
)
async def test_what_does_not_fit_is_named(door: Door, query: str, field: str) -> None:
    answer = await door.client.get(f"/v1/search?{query}")
    shown = answer.json()["error"]
    assert (answer.status_code, shown["code"]) == (400, "INVALID_ARGUMENT")
    assert [each["field"] for each in shown.get("fields", [])] == ([field] if field else []), shown
    assert "Search" not in door.router.requests


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"queries": []}, "queries"),
        ({"queries": [{"text": "a", "words": "b"}]}, "queries[0]"),
        ({"queries": [{"text": "a", "colour": 1}]}, "queries[0].colour"),
        ({"queries": [{"text": 1}]}, "queries[0].text"),
        ({"queries": [{"text": "a", "weight": 0}]}, "queries[0]"),
        ({"queries": [{"image": {"base64": "%"}}]}, "queries[0].image.base64"),
        ({"queries": [{"image": {}}]}, "queries[0].image"),
        ({"queries": [{"vector": [1e39], "space_id": "s"}]}, "queries[0].vector"),
        ({"queries": [{"text": "a"}], "filter": {"nonsense": 1}}, "filter"),
        ({"queries": [{"text": "a"}], "limit": 10**400}, "limit"),
        ([], "body"),
    ],
)
async def test_what_does_not_fit_in_a_body_is_named(door: Door, body: Any, field: str) -> None:
    answer = await door.client.post("/v1/search", json=body)
    shown = answer.json()["error"]
    assert (answer.status_code, [each["field"] for each in shown["fields"]]) == (400, [field]), shown
    assert "Search" not in door.router.requests


async def test_an_error_of_the_router_keeps_its_code_and_fields(door: Door) -> None:
    door.router.answers["Search"] = InvalidInput(Reason.SPACE_UNKNOWN, "no such space", field="queries[0].space")
    answer = await door.client.post("/v1/search", content=b'{"queries": [{"text": "a"}]}', headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["error"]["reason"] == "SPACE_UNKNOWN"
    assert answer.json()["error"]["fields"][0]["field"] == "queries[0].space"
