"""The addresses of Arthur image recognition under /api/v1."""

import base64
from typing import Any

import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, NotFound, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status
from tests.http.compat.arthur_images import NO_COLLECTION, item
from tests.http.conftest import Door

BATCH = "/api/v1/batch/match"
ANALYTICS = "/api/v1/artists/monet/analytics"


def hit(score: float, *names: str) -> search_pb2.Hit:
    """A hit with its names."""
    return search_pb2.Hit(item=item(*names), score=score)


def response(*hits: search_pb2.Hit) -> router_pb2.BatchSearchResult:
    """The answer to one search."""
    return router_pb2.BatchSearchResult(response=router_pb2.SearchResponse(hits=hits))


def failure(error: Exception) -> router_pb2.BatchSearchResult:
    """The failure of one search."""
    return router_pb2.BatchSearchResult(error=to_status(error))


async def test_a_batch_answers_for_each_image(door: Door) -> None:
    wrong = InvalidInput(Reason.IMAGE_UNDECODABLE, "no image", field="searches[1].queries[0].image")
    door.router.answers["BatchSearch"] = router_pb2.BatchSearchResponse(
        results=[response(hit(1.0000001, "a", "e", "v"), hit(0.75, "b", "f", "w")), failure(wrong)]
    )
    images = ["https://example.org/a.jpg", "§§", {"image_data": base64.b64encode(b"png").decode()}]
    answer = await door.client.post(BATCH, json={"images": images, "artist_filter": ["a", "b"]})
    assert answer.status_code == 200
    shown = answer.json()
    assert (shown["total_processed"], shown["failed_images"]) == (3, [1, 2])
    assert [each["reason"] for each in shown["errors"]] == ["IMAGE_UNDECODABLE", "IMAGE_UNDECODABLE"]
    assert shown["total_query_time_ms"] > 0
    assert shown["results"] == [
        [
            {
                "artist_id": artist,
                "entry_id": entry,
                "view_id": view,
                "similarity_score": score,
                "confidence": confidence,
                "embedding_distance": 1 - score,
                "metadata": {"artist": artist, "entry": entry, "view": view},
            }
            for artist, entry, view, score, confidence in (
                ("a", "e", "v", 1.0, "High"),
                ("b", "f", "w", 0.75, "Medium"),
            )
        ],
        [],
        [],
    ]
    (asked,) = door.router.requests["BatchSearch"]
    assert [each.queries[0].image.WhichOneof("source") for each in asked.searches] == ["uri", "content"]
    first = asked.searches[0]
    assert (first.collection, first.limit, round(first.min_score, 3)) == ("arthur", 10, 0.7)
    assert [each.string_value for each in first.filter.condition.one_of.values] == ["a", "b"]


async def test_a_batch_fails_where_the_mesh_does(door: Door) -> None:
    away = failure(Unavailable(Reason.ENCODER_UNAVAILABLE, "no encoder"))
    door.router.answers["BatchSearch"] = router_pb2.BatchSearchResponse(results=[away, away])
    images = ["https://example.org/a.jpg"] * 2
    assert (await door.client.post(BATCH, json={"images": images})).status_code == 503
    door.router.answers["BatchSearch"] = router_pb2.BatchSearchResponse(results=[away, response()])
    answer = await door.client.post(BATCH, json={"images": images})
    assert (answer.status_code, answer.json()["failed_images"]) == (200, [0])
    door.router.answers["BatchSearch"] = router_pb2.BatchSearchResponse(results=[failure(NO_COLLECTION)] * 2)
    answer = await door.client.post(BATCH, json={"images": images})
    assert (answer.json()["results"], answer.json()["failed_images"]) == ([[], []], [])


async def test_a_wrong_batch_is_refused(door: Door) -> None:
    one = ["https://example.org/a.jpg"]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "images"),
        ({"images": []}, "images"),
        ({"images": one * 257}, "images"),
        ({"images": one, "similarity_threshold": 1.5}, "similarity_threshold"),
        ({"images": one, "similarity_threshold": "a lot"}, "similarity_threshold"),
        ({"images": one, "similarity_threshold": True}, "similarity_threshold"),
        ({"images": one, "max_results_per_image": 0}, "max_results_per_image"),
        ({"images": one, "max_results_per_image": 101}, "max_results_per_image"),
        ({"images": one, "artist_filter": [1]}, "artist_filter"),
        ({"images": one, "artist_filter": ["a"] * 1001}, "artist_filter"),
    ]
    for sent, field in wrong:
        answer = await door.client.post(BATCH, json=sent)
        assert answer.status_code == 400, sent
        assert answer.json()["error"]["fields"][0]["field"] == field
    assert door.router.entered == 0


async def test_similar_images_are_found_by_an_id(door: Door) -> None:
    space = common_pb2.VectorSpace(model="ViT-B-32/openai", dimension=512)
    collection = search_pb2.Collection(name="arthur", spaces=[search_pb2.NamedSpace(name="image", space=space)])
    door.router.answers["GetCollection"] = search_pb2.GetCollectionResponse(collection=collection)
    door.router.answers["GetInfo"] = search_pb2.GetInfoResponse(store="postgresql 18")
    door.router.answers["Search"] = router_pb2.SearchResponse(hits=[hit(0.5, "b", "f", "w")])
    address = "/api/v1/similar/a%2Fb.50%2525.v"
    for answer in (
        await door.client.get(address, params={"max_results": 3, "similarity_threshold": 0.25}),
        await door.client.post(address, json={"max_results": 3, "similarity_threshold": 0.25}),
    ):
        shown = answer.json()
        assert (answer.status_code, shown["total_results"]) == (200, 1)
        assert (shown["results"][0]["artist_id"], shown["results"][0]["confidence"]) == ("b", "Low")
        assert shown["model_info"] == {
            "model_name": "ViT-B-32/openai",
            "embedding_dimension": 512,
            "index_type": "postgresql 18",
            "source_image_id": "a/b.50%25.v",
        }
        asked = door.router.requests["Search"].pop()
        assert (asked.queries[0].item_id, asked.limit, asked.min_score) == ("a/b.50%25.v", 3, 0.25)
    # A body is not needed.
    assert (await door.client.post(address)).status_code == 200
    assert door.router.requests["Search"].pop().limit == 50
    for wrong in ({"max_results": 1001}, {"max_results": "9" * 5000}, {"similarity_threshold": -1}):
        assert (await door.client.get(address, params=wrong)).status_code == 400
        assert (await door.client.post(address, json=wrong)).status_code == 400
    door.router.answers["Search"] = NotFound(Reason.ITEM_NOT_FOUND, "there is no such item")
    assert (await door.client.get(address)).status_code == 404


async def test_an_artist_is_told_in_figures(door: Door) -> None:
    december = search_pb2.TimeBucket(count=5)
    december.start.FromJsonString("2026-12-01T00:00:00Z")
    value = search_pb2.FacetCount(count=4)
    value.value.string_value = "lilies"
    figures = search_pb2.AggregateResponse(
        item_count=5,
        results=[
            search_pb2.AggregationResult(name="entries", distinct_count=2),
            search_pb2.AggregationResult(name="by_entry", value_counts=search_pb2.Facet(counts=[value], other_count=1)),
            search_pb2.AggregationResult(name="by_month", counts_by_time=search_pb2.TimeBuckets(buckets=[december])),
        ],
    )
    door.router.answers["Aggregate"] = lambda asked: (
        search_pb2.AggregateResponse(item_count=1) if asked.filter.WhichOneof("kind") == "all" else figures
    )
    door.router.answers["ListItems"] = search_pb2.ListItemsResponse(
        items=[search_pb2.Item(id="monet.lilies.1"), search_pb2.Item(id="monet.lilies.2")]
    )
    found = [
        search_pb2.BatchSearchResult(
            response=search_pb2.SearchResponse(hits=[hit(0.5, "manet", "x", "1"), hit(0.25, "degas", "x", "1")])
        ),
        search_pb2.BatchSearchResult(response=search_pb2.SearchResponse(hits=[hit(0.75, "degas", "y", "1")])),
        search_pb2.BatchSearchResult(error=to_status(NotFound(Reason.ITEM_NOT_FOUND, "it is gone"))),
    ]
    door.router.answers["BatchSearch"] = search_pb2.BatchSearchResponse(results=found)
    assert (await door.client.get(ANALYTICS)).json() == {
        "artist_id": "monet",
        "total_images": 5,
        "total_entries": 2,
        "average_embedding_quality": 0.8,
        "most_similar_artists": [{"artist_id": "degas", "score": 0.75}, {"artist_id": "manet", "score": 0.5}],
        "image_distribution": {"by_entry": {"lilies": 4}, "by_month": {"2026-12": 5}, "other_entries": 1},
    }
    (asked,) = door.router.requests["BatchSearch"]
    assert [each.legs[0].item_id for each in asked.searches] == ["monet.lilies.1", "monet.lilies.2"]
    condition = getattr(asked.searches[0].filter, "not").condition
    assert (condition.field, condition.equals.string_value) == ("artist", "monet")


@pytest.mark.parametrize("is_there", [True, False])
async def test_an_artist_without_images_has_none(door: Door, is_there: bool) -> None:
    if not is_there:
        door.router.answers |= dict.fromkeys(("Aggregate", "ListItems"), NO_COLLECTION)
    answer = await door.client.get("/api/v1/artists/nobody/analytics")
    assert answer.status_code == 200
    assert answer.json() == {
        "artist_id": "nobody",
        "total_images": 0,
        "total_entries": 0,
        "average_embedding_quality": 0.0,
        "most_similar_artists": [],
        "image_distribution": {"by_entry": {}, "by_month": {}},
    }


async def test_docs_and_metrics_have_their_addresses(door: Door) -> None:
    answer = await door.client.get("/api/v1/docs")
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
    for accept in ("text/plain", "application/openmetrics-text; version=1.0.0"):
        answer = await door.client.get("/api/v1/metrics", headers={"accept": accept})
        assert answer.headers["content-type"].startswith(accept.partition(";")[0])
        assert "lensmesh_http_requests_total{" in answer.text
        assert 'route="/api/v1/docs"' in answer.text
