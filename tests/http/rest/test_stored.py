"""Collections, facets, jobs and the status by REST."""

import asyncio
import json
from typing import Any

import pytest
from google.protobuf import struct_pb2, timestamp_pb2

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import NotFound, Unavailable
from lensmesh_chassis.reasons import Reason
from tests.http.conftest import Door
from tests.http.rest.answers import STATUS

SPACE = common_pb2.VectorSpace(id="vs1-x", model="ViT", dimension=2)
COLLECTION = search_pb2.Collection(
    name="c",
    spaces=[
        search_pb2.NamedSpace(
            name="image",
            space=SPACE,
            index_status=search_pb2.IndexStatus(state=search_pb2.INDEX_STATE_BUILT),
            calibrations=[search_pb2.Calibration(modality=common_pb2.MODALITY_TEXT, median=0.25)],
        )
    ],
    field_indexes=[search_pb2.FieldIndex(field="kind", type=search_pb2.FIELD_TYPE_KEYWORD)],
    item_count=7,
    create_time=timestamp_pb2.Timestamp(seconds=1_700_000_000),
)
JOB = search_pb2.Job(
    id="j1",
    kind=search_pb2.JOB_KIND_FIND_DUPLICATES,
    collection="c",
    state=search_pb2.JOB_STATE_SUCCEEDED,
    done_count=4,
    find_duplicates_result=search_pb2.FindDuplicatesResult(group_count=1, item_count=2, compared_count=3),
)


@pytest.fixture
async def mesh(door: Door) -> Door:
    """A door before a router with one collection and one job."""
    door.router.answers |= {
        "GetStatus": STATUS,
        "GetInfo": lambda _: encoder_pb2.GetInfoResponse(models=[encoder_pb2.ServedModel(spaces=[SPACE])]),
        "GetCollection": search_pb2.GetCollectionResponse(collection=COLLECTION),
        "CreateCollection": search_pb2.CreateCollectionResponse(collection=COLLECTION),
        "ListCollections": search_pb2.ListCollectionsResponse(collections=[COLLECTION], next_page_token="t"),
        "DeleteCollection": search_pb2.DeleteCollectionResponse(deleted_count=7),
        "GetJob": search_pb2.GetJobResponse(job=JOB),
        "CancelJob": search_pb2.CancelJobResponse(job=JOB),
        "ListJobs": search_pb2.ListJobsResponse(jobs=[JOB]),
    }
    return door


async def test_a_collection_is_made_and_shown(mesh: Door) -> None:
    body = {"name": "c", "fields": {"kind": "keyword", "year": "number"}, "language": "de"}
    made = await mesh.client.post("/v1/collections", json=body)
    assert made.status_code == 201
    sent = mesh.router.requests["CreateCollection"][-1].collection
    assert (sent.name, sent.language, sent.spaces[0].name, sent.spaces[0].space.id) == ("c", "de", "image", "vs1-x")
    assert [(each.field, each.type) for each in sent.field_indexes] == [
        ("kind", search_pb2.FIELD_TYPE_KEYWORD),
        ("year", search_pb2.FIELD_TYPE_NUMBER),
    ]
    shown = (await mesh.client.get("/v1/collections/c")).json()
    assert shown == made.json()
    assert (shown["item_count"], shown["created_at"]) == (7, "2023-11-14T22:13:20.000000Z")
    assert shown["spaces"][0]["index"] == "built"
    assert shown["spaces"][0]["calibrations"][0]["modality"] == "text"
    assert shown["fields"] == [{"field": "kind", "type": "keyword"}]
    assert (await mesh.client.get("/v1/collections?page_size=1")).json() == {
        "collections": [shown],
        "next_page_token": "t",
    }
    assert (await mesh.client.delete("/v1/collections/c")).json() == {"deleted_count": 7}
    assert mesh.router.requests["DeleteCollection"][-1].name == "c"


async def test_spaces_are_those_that_encoders_serve(mesh: Door) -> None:
    spaces = [{"name": "image", "space_id": "vs1-x", "index": "flat"}]
    await mesh.client.post("/v1/collections", json={"name": "c", "spaces": spaces})
    assert mesh.router.requests["CreateCollection"][-1].collection.spaces[0].index.WhichOneof("kind") == "flat"
    answer = await mesh.client.post("/v1/collections", json={"name": "c", "spaces": [{"name": "a", "space_id": "b"}]})
    assert answer.json()["error"]["fields"][0]["field"] == "spaces[0].space_id"


async def test_a_collection_that_is_not_there(mesh: Door) -> None:
    mesh.router.answers["GetCollection"] = NotFound(Reason.COLLECTION_NOT_FOUND, "none")
    for answer in (await mesh.client.get("/v1/collections/x"), await mesh.client.delete("/v1/collections/x")):
        assert (answer.status_code, answer.json()["error"]["reason"]) == (404, "COLLECTION_NOT_FOUND")
    assert "DeleteCollection" not in mesh.router.requests


async def test_facets_are_counted_with_the_total(mesh: Door) -> None:
    count = search_pb2.FacetCount(value=struct_pb2.Value(string_value="cat"), count=5)
    result = search_pb2.AggregationResult(value_counts=search_pb2.Facet(field="kind", counts=[count], other_count=2))
    mesh.router.answers["Aggregate"] = search_pb2.AggregateResponse(item_count=7, results=[result, result])
    query = {"fields": "kind,a.b", "limit": "3", "filter": "n>1"}
    shown = (await mesh.client.get("/v1/facets", params=query)).json()
    assert shown["total"] == 7
    assert shown["facets"][1] == {"field": "a.b", "values": [{"value": "cat", "count": 5}], "other_count": 2}
    request = mesh.router.requests["Aggregate"][-1]
    assert (request.collection, [each.value_counts.field for each in request.aggregations]) == ("main", ["kind", "a.b"])
    assert (await mesh.client.get("/v1/facets")).json()["error"]["fields"][0]["field"] == "fields"


@pytest.mark.parametrize(
    ("body", "method", "expected"),
    [
        ({"kind": "duplicates", "max_distance": 9}, "StartFindDuplicates", {"collection": "main", "max_distance": 9}),
        ({"kind": "rebuild", "spaces": ["image"], "collection": "c"}, "StartRebuildIndexes", {"collection": "c"}),
        ({"kind": "delete", "filter": "a=1", "id": "j1"}, "StartDeleteItems", {"job_id": "j1"}),
        ({"kind": "calibrate", "spaces": ["image"]}, "StartCalibrate", {"space": "image"}),
    ],
)
async def test_a_job_of_each_kind_begins(mesh: Door, body: Any, method: str, expected: dict[str, Any]) -> None:
    answer = await mesh.client.post("/v1/jobs", json=body)
    assert answer.status_code == 201, answer.text
    request = mesh.router.requests[method][-1]
    assert {name: getattr(request, name) for name in expected} == expected


async def test_a_calibration_embeds_its_texts(mesh: Door) -> None:
    embedding = common_pb2.Embedding(space_id="vs1-x", data=b"1234")
    mesh.router.answers["EncodeTexts"] = encoder_pb2.EncodeTextsResponse(
        results=[encoder_pb2.EncodeResult(embedding=embedding)]
    )
    await mesh.client.post("/v1/jobs", json={"kind": "calibrate", "texts": [{"id": "a", "text": "a cat"}]})
    assert mesh.router.requests["EncodeTexts"][-1].options.space_id == "vs1-x"
    (text,) = mesh.router.requests["StartCalibrate"][-1].texts
    assert (text.item_id, text.embedding) == ("a", embedding)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "kind"),
        ({"kind": "burn"}, "kind"),
        ({"kind": "rebuild", "filter": "a=1"}, "filter"),
        ({"kind": "calibrate", "spaces": ["a", "b"]}, "spaces"),
    ],
)
async def test_a_job_that_does_not_fit_is_named(mesh: Door, body: Any, field: str) -> None:
    answer = await mesh.client.post("/v1/jobs", json=body)
    assert (answer.status_code, answer.json()["error"]["fields"][0]["field"]) == (400, field)


async def test_jobs_are_listed_shown_and_cancelled(mesh: Door) -> None:
    shown = (await mesh.client.get("/v1/jobs/j1")).json()
    assert (shown["kind"], shown["state"], shown["done_count"]) == ("duplicates", "succeeded", 4)
    assert shown["result"] == {"group_count": 1, "item_count": 2, "compared_count": 3, "skipped_count": 0}
    assert (await mesh.client.delete("/v1/jobs/j1")).json() == shown
    listed = await mesh.client.get("/v1/jobs?state=pending,running&kind=delete&collection=c")
    assert listed.json() == {"jobs": [shown], "next_page_token": ""}
    request = mesh.router.requests["ListJobs"][-1]
    assert list(request.states) == [search_pb2.JOB_STATE_PENDING, search_pb2.JOB_STATE_RUNNING]
    assert request.kind == search_pb2.JOB_KIND_DELETE_ITEMS
    assert (await mesh.client.get("/v1/jobs?state=odd")).status_code == 400


async def test_a_job_is_watched(mesh: Door) -> None:
    running = search_pb2.Job(id="j1", state=search_pb2.JOB_STATE_RUNNING, time_left_ms=5)
    looks = [search_pb2.WatchJobResponse(job=each) for each in (running, JOB)]
    mesh.router.answers["WatchJob"] = looks
    answer = await mesh.client.get("/v1/jobs/j1/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    first, second, last, _ = answer.text.split("\n\n")
    assert json.loads(first.removeprefix("data: "))["time_left_ms"] == 5
    assert json.loads(second.removeprefix("data: "))["state"] == "succeeded"
    assert last == "event: end\ndata: {}"
    mesh.router.answers["WatchJob"] = [looks[0], Unavailable(Reason.DRAINING, "going")]
    assert "event: error\ndata: " in (await mesh.client.get("/v1/jobs/j1/events")).text
    mesh.router.answers["WatchJob"] = [NotFound(Reason.JOB_NOT_FOUND, "none")]
    assert (await mesh.client.get("/v1/jobs/j1/events")).status_code == 404


async def test_the_status_is_for_people(mesh: Door) -> None:
    device = common_pb2.Device(id="cuda:0", name="H", memory_total_bytes=5)
    model = common_pb2.ModelInfo(name="ViT", kind=common_pb2.MODEL_KIND_MOCK, devices=[device], backend="mock")
    service = router_pb2.ServiceStatus(
        name="lensmesh.encoder.v1.EncoderService",
        address="10.0.0.1:50051",
        health=router_pb2.HEALTH_NOT_SERVING,
        reason="warming up",
        models=[model],
    )
    status = router_pb2.GetStatusResponse(
        services=[service, router_pb2.ServiceStatus()],
        default_collection="main",
        limits=common_pb2.Limits(max_items=9, uri_schemes=["https"]),
        media=router_pb2.MediaInfo(thumbnails=True, thumbnail_px=320),
    )
    mesh.router.answers["GetStatus"] = status
    shown = (await mesh.client.get("/v1/status")).json()
    first, second = shown["services"]
    assert (first["kind"], first["health"], first["reason"]) == ("encoder", "not_serving", "warming up")
    assert first["models"][0]["devices"][0]["name"] == "H"
    assert (second["kind"], second["health"]) == ("", "unknown")
    assert shown["media"] == {"thumbnails": True, "originals": False, "thumbnail_px": 320, "trouble": ""}
    assert (shown["limits"]["max_items"], shown["limits"]["uri_schemes"]) == (9, ["https"])
    assert shown["trace_url"] is None
    assert (await mesh.client.get("/v1/status?colour=red")).status_code == 400


async def test_the_status_says_where_traces_are_shown(stopped_door: Door) -> None:
    door = await stopped_door.start(trace_url="http://jaeger:16686/trace")
    assert (await door.client.get("/v1/status")).json()["trace_url"] == "http://jaeger:16686/trace"


async def test_a_stream_that_the_end_of_the_service_cuts_off_says_so(stopped_door: Door) -> None:
    door = await stopped_door.start(drain_seconds=0.1)
    job = search_pb2.WatchJobResponse(job=search_pb2.Job(id="j"))
    door.router.answers["WatchJob"] = [job, asyncio.Event()]
    reader, writer = await asyncio.open_connection(*door.host_and_port)
    writer.write(b"GET /v1/jobs/j/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await reader.readuntil(b'"id":"j"')
    stopping = asyncio.create_task(door.stop())
    rest = await reader.read()
    await stopping
    writer.close()
    assert b"event: error" in rest
    assert b"DRAINING" in rest
    assert rest.endswith(b"0\r\n\r\n")
