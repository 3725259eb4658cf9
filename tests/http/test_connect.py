"""Every contract by the Connect protocol: forms, errors, time-outs, streams."""

import base64
import gzip
import json
import struct
from typing import Any

import pytest

from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis import contract
from lensmesh_chassis.errors import InvalidInput, NotFound, Overloaded, Unavailable
from lensmesh_chassis.reasons import Reason
from tests.http.conftest import Door

SEARCH = "/lensmesh.router.v1.RouterService/Search"
WATCH = "/lensmesh.search.v1.SearchService/WatchJob"
JSON = {"content-type": "application/json"}


def envelopes(body: bytes) -> list[tuple[int, bytes]]:
    """Take a stream's body apart: flags and message of each envelope."""
    found = []
    while body:
        flags, size = struct.unpack(">BI", body[:5])
        found.append((flags, body[5 : 5 + size]))
        body = body[5 + size :]
    return found


async def test_every_unary_and_streaming_method_answers(door: Door) -> None:
    for service in contract.services():
        for method in service.methods:
            path = f"/{service.full_name}/{method.name}"
            if method.client_streaming:
                answer = await door.client.post(path, content=b"{}", headers=JSON)
                assert (answer.status_code, answer.json()["code"]) == (501, "unimplemented"), path
                assert "/v1/ingest" in answer.json()["message"]
            else:
                answer = await door.client.post(path, content=b"{}", headers=JSON)
                assert answer.status_code == 200, path
                assert method.name in door.router.requests


async def test_a_message_is_json_or_binary(door: Door) -> None:
    response = router_pb2.SearchResponse(hits=[search_pb2.Hit(item=search_pb2.Item(id="é✓"), score=0.5)])
    door.router.answers["Search"] = response
    answer = await door.client.post(SEARCH, content=b'{"queries":[{"text":"a"}],"limit":3}', headers=JSON)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"hits": [{"item": {"id": "é✓"}, "score": 0.5}]}
    assert door.router.requests["Search"][-1].limit == 3

    request = router_pb2.SearchRequest(limit=4).SerializeToString()
    binary = {"content-type": "application/proto"}
    answer = await door.client.post(SEARCH, content=request, headers=binary)
    assert router_pb2.SearchResponse.FromString(answer.content) == response
    assert door.router.requests["Search"][-1].limit == 4

    packed = JSON | {"content-encoding": "gzip"}
    await door.client.post(SEARCH, content=gzip.compress(b'{"limit":5}'), headers=packed)
    assert door.router.requests["Search"][-1].limit == 5


async def test_get_asks_what_changes_nothing(door: Door) -> None:
    door.router.answers["Search"] = router_pb2.SearchResponse(exact=True)
    asked = {"connect": "v1", "encoding": "json", "message": '{"limit":6}'}
    answer = await door.client.get(SEARCH, params=asked)
    assert answer.json() == {"exact": True}
    assert door.router.requests["Search"][-1].limit == 6
    again = await door.client.get(SEARCH, params=asked, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")

    message = base64.urlsafe_b64encode(router_pb2.SearchRequest(limit=7).SerializeToString()).decode().rstrip("=")
    answer = await door.client.get(SEARCH, params={"encoding": "proto", "message": message, "base64": "1"})
    assert router_pb2.SearchResponse.FromString(answer.content).exact
    assert door.router.requests["Search"][-1].limit == 7

    refused = await door.client.get("/lensmesh.router.v1.RouterService/Ingest", params=asked)
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


async def test_errors_keep_code_reason_fields_and_delay(door: Door) -> None:
    door.router.answers["Search"] = InvalidInput(Reason.QUERY_INVALID, "no", field="queries[0].text")
    answer = await door.client.post(SEARCH, content=b"{}", headers=JSON)
    shown = answer.json()
    assert (answer.status_code, shown["code"], shown["message"]) == (400, "invalid_argument", "no")
    debug = {detail["type"]: detail["debug"] for detail in shown["details"]}
    assert debug["google.rpc.ErrorInfo"]["reason"] == "QUERY_INVALID"
    assert debug["google.rpc.BadRequest"]["fieldViolations"][0]["field"] == "queries[0].text"

    door.router.answers["Search"] = Overloaded(Reason.OVERLOADED, "full", retry_after_s=1.5)
    answer = await door.client.post(SEARCH, content=b"{}", headers=JSON)
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["code"]) == (
        429,
        "2",
        "resource_exhausted",
    )


async def test_a_time_out_is_the_routers_deadline(door: Door) -> None:
    await door.client.post(SEARCH, content=b"{}", headers=JSON | {"connect-timeout-ms": "4000"})
    left = door.router.time_left[-1]
    assert left is not None
    assert 1 < left <= 4
    refused = await door.client.post(SEARCH, content=b"{}", headers=JSON | {"connect-timeout-ms": "soon"})
    assert refused.status_code == 400
    assert "Connect-Timeout-Ms" in refused.json()["message"]


@pytest.mark.parametrize("form", ["json", "proto"])
async def test_streams_end_with_how_the_call_ended(door: Door, form: str) -> None:
    job = search_pb2.WatchJobResponse()
    headers = {"content-type": f"application/connect+{form}"}
    body = struct.pack(">BI", 0, 2 if form == "json" else 0) + (b"{}" if form == "json" else b"")
    door.router.answers["WatchJob"] = [job, job]
    answer = await door.client.post(WATCH, content=body, headers=headers)
    assert [flags for flags, _ in envelopes(answer.content)] == [0, 0, 2]
    assert json.loads(envelopes(answer.content)[-1][1]) == {}

    door.router.answers["WatchJob"] = [job, NotFound(Reason.JOB_NOT_FOUND, "gone")]
    answer = await door.client.post(WATCH, content=body, headers=headers)
    assert answer.status_code == 200
    (flags, _), (last, end) = envelopes(answer.content)
    assert (flags, last, json.loads(end)["error"]["code"]) == (0, 2, "not_found")


async def test_people_read_streams_as_lines_and_events(door: Door) -> None:
    job = search_pb2.WatchJobResponse()
    door.router.answers["WatchJob"] = [job, Unavailable(Reason.DRAINING, "later")]
    answer = await door.client.post(WATCH, content=b"{}", headers=JSON)
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    first, last = answer.content.splitlines()
    assert json.loads(first) == {}
    assert json.loads(last)["error"]["reason"] == "DRAINING"

    answer = await door.client.post(WATCH, content=b"{}", headers=JSON | {"accept": "text/event-stream"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.startswith("data: {}\n\nevent: error\ndata: ")

    # What fails before its first answer has a status of its own.
    door.router.answers["WatchJob"] = [NotFound(Reason.JOB_NOT_FOUND, "none")]
    answer = await door.client.post(WATCH, content=b"{}", headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


BAD: list[tuple[bytes, dict[str, str], int, str]] = [
    (b"{", JSON, 400, "no JSON"),
    (b"[" * 5000, JSON, 400, "too deeply"),
    (b'{"filter":' + b'{"not":' * 500 + b"{}" + b"}" * 501, JSON, 400, "body"),
    (b'{"limit":"\xff"}', JSON, 400, "UTF-8"),
    (b'{"limmit":1}', JSON, 400, "limmit"),
    (b'{"limit":NaN}', JSON, 400, "NaN"),
    (b"[1]", JSON, 400, "object"),
    (b"{}", {"content-type": "text/plain"}, 415, "application/json"),
    (b"\xff\xff\xff", {"content-type": "application/proto"}, 400, ""),
    (b"{}", JSON | {"content-encoding": "br"}, 400, "gzip or identity"),
    (b"nothing", JSON | {"content-encoding": "gzip"}, 400, "no gzip"),
    (gzip.compress(b" " * 50_000_000), JSON | {"content-encoding": "gzip"}, 429, "unpacked"),
    (b'{"queries":[' + b"[]," * 300_000 + b"[]]}", JSON, 400, "body_values"),
]


@pytest.mark.parametrize(("body", "headers", "status", "words"), BAD)
async def test_bad_bodies_are_told_what_is_wrong(
    door: Door, body: bytes, headers: dict[str, str], status: int, words: str
) -> None:
    if headers["content-type"] == "application/proto":
        # The router reads these bytes, and says what is wrong with them.
        door.router.answers["Search"] = InvalidInput(Reason.MESSAGE_MALFORMED, "malformed")
        body = b""
    answer = await door.client.post(SEARCH, content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["message"]


async def test_an_unknown_method_and_an_unknown_path(door: Door) -> None:
    answer = await door.client.post("/lensmesh.router.v1.RouterService/Nope", content=b"{}", headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    answer = await door.client.post("/nowhere", content=b"{}", headers=JSON)
    error: dict[str, Any] = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404, "NOT_FOUND")
