"""POST /v1/ingest: items in, lines out, back-pressure, and what becomes of those who leave."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status
from tests.http.conftest import Door
from tests.http.rest.answers import STATUS
from tests.support.waiting import until

HEAD = b"POST /v1/ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n"
NDJSON = {"content-type": "application/x-ndjson"}


def stored(request: router_pb2.IngestStreamRequest) -> list[Any]:
    """Answer all items of a message as durable, but those that are "bad"."""
    results = []
    for item in request.items:
        if item.image.content == b"bad":
            error = to_status(InvalidInput(Reason.IMAGE_UNDECODABLE, "no image"))
            results.append(router_pb2.IngestResult(ref=item.ref, error=error))
            continue
        done = router_pb2.IngestedItem(
            id=item.id or "made", outcome=search_pb2.UPSERT_OUTCOME_CREATED, caption=common_pb2.Caption(text="a cat")
        )
        results.append(router_pb2.IngestResult(ref=item.ref, item=done))
    return [router_pb2.IngestStreamResponse(results=results)] if results else []


def line(content: bytes, **more: Any) -> bytes:
    """Return a line of an ingest."""
    return json.dumps({"base64": base64.b64encode(content).decode(), **more}).encode() + b"\n"


def read(answer: Any) -> tuple[dict[int, Any], dict[str, Any]]:
    """Return the lines of an answer by their index, and the last one."""
    *lines, last = [json.loads(each) for each in answer.text.splitlines()]
    return {each["index"]: each for each in lines}, last


@pytest.fixture
async def mesh(door: Door) -> Door:
    """A door before a router that stores everything."""
    door.router.answers |= {"GetStatus": STATUS, "IngestStream": stored}
    return door


async def test_lines_are_answered_as_they_become_durable(mesh: Door) -> None:
    body = line(b"one", ref="r1", id="a/1", metadata={"n": 1}) + b"\n" + line(b"bad", name="b.png")
    body += b'{"url": "https://example.org/c.png"}'
    answer = await mesh.client.post("/v1/ingest?collection=c&captions=none", content=body, headers=NDJSON)
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines, last = read(answer)
    digest = hashlib.sha256(b"one").hexdigest()
    assert lines[0] == {
        "ref": "r1",
        "index": 0,
        "name": "",
        "image": {
            "id": "a/1",
            "collection": "c",
            "caption": "a cat",
            "caption_model": None,
            "content_digest": digest,
            "thumbnail": f"/v1/thumbnails/{digest}.webp",
            "original": None,
        },
        "outcome": "created",
    }
    assert (lines[1]["name"], lines[1]["error"]["reason"]) == ("b.png", "IMAGE_UNDECODABLE")
    assert lines[2]["image"]["content_digest"] is None
    assert last["done"].pop("seconds") >= 0
    assert last["done"] == {"items": 3, "created": 2, "updated": 0, "unchanged": 0, "skipped": 0, "failed": 1}
    sent = mesh.router.requests["IngestStream"]
    assert (sent[0].options.collection, sent[0].options.captions) == ("c", router_pb2.CAPTION_POLICY_NONE)
    items = [item for request in sent for item in request.items]
    assert dict(items[0].metadata) == {"n": 1}
    assert items[0].content_digest.hex() == digest


async def test_files_have_what_follows_them(mesh: Door) -> None:
    files: list[tuple[str, Any]] = [
        ("file", ("ü.png", b"one", "image/png")),
        ("metadata", (None, '{"n": 1}')),
        ("id", (None, "a/1")),
        ("ref", (None, "r1")),
        ("file", ("two.png", b"two", "image/png")),
        ("metadata", (None, "{")),
        ("file", ("three.png", b"three", "image/png")),
    ]
    lines, last = read(await mesh.client.post("/v1/ingest", files=files))
    assert (lines[0]["name"], lines[0]["ref"], lines[0]["image"]["id"]) == ("ü.png", "r1", "a/1")
    assert lines[0]["image"]["collection"] == "main"
    assert lines[1]["error"]["reason"] == "MESSAGE_MALFORMED"
    assert (lines[2]["outcome"], last["done"]["items"]) == ("created", 3)


async def test_events_where_they_are_asked_for(mesh: Door) -> None:
    headers = NDJSON | {"accept": "text/event-stream"}
    answer = await mesh.client.post("/v1/ingest", content=line(b"one"), headers=headers)
    assert answer.headers["content-type"].startswith("text/event-stream")
    first, last, rest = answer.text.split("\n\n")
    assert first.startswith("data: {")
    assert last.startswith("event: done\ndata: {")
    assert not rest


async def test_a_bad_line_fails_alone(stopped_door: Door) -> None:
    door = await stopped_door.start(body_bytes=64 * 1024)
    door.router.answers |= {"GetStatus": STATUS, "IngestStream": stored}
    bad = [
        b"nonsense\n",
        b'{"base64": "%"}\n',
        b'{"base64": "", "colour": 1}\n',
        b"{}\n",
        b"\xff\n",
        b"[" * 1000 + b"\n",
        b'{"base64": "' + b"A" * 200_000 + b'"}\n',
        b'{"base64": "AAAA", "metadata": {"a": 1e999}}\n',
    ]
    body = line(b"one") + b"".join(bad) + line(b"two")
    lines, last = read(await door.client.post("/v1/ingest", content=body, headers=NDJSON))
    assert last["done"]["failed"] == len(bad)
    reasons = [lines[index + 1]["error"]["reason"] for index in range(len(bad))]
    malformed, option, missing = "MESSAGE_MALFORMED", "OPTION_INVALID", "IMAGE_MISSING"
    assert reasons == [
        malformed, malformed, option, missing, malformed, malformed, "IMAGE_TOO_LARGE", "METADATA_INVALID",
    ]  # fmt: skip
    assert lines[len(bad) + 1]["outcome"] == "created"


async def test_a_file_that_is_too_large_fails_alone(stopped_door: Door) -> None:
    door = await stopped_door.start(body_bytes=64 * 1024)
    door.router.answers |= {"GetStatus": STATUS, "IngestStream": stored}
    files = [("file", ("a", b"one")), ("file", ("b", b"x" * 500_000)), ("file", ("c", b"two"))]
    lines, last = read(await door.client.post("/v1/ingest", files=files))
    assert lines[1]["error"]["reason"] == "IMAGE_TOO_LARGE"
    assert (last["done"]["created"], last["done"]["failed"]) == (2, 1)


@pytest.mark.parametrize(
    ("headers", "body", "status", "field"),
    [
        (NDJSON, b"", 400, "file"),
        (NDJSON, b"\n\n", 400, "file"),
        ({"content-type": "application/json"}, b"{}", 415, ""),
        ({"content-type": "multipart/form-data"}, b"", 400, "content-type"),
        ({"content-type": "multipart/form-data; boundary=" + "x" * 100}, b"", 400, "content-type"),
        ({"content-type": "multipart/form-data; boundary=b"}, b"--c\r\n", 400, "body"),
        ({"content-type": "multipart/form-data; boundary=b"}, b"--b\r\n\r\nx\r\n--b--\r\n", 400, "body"),
    ],
)
async def test_a_body_without_an_image_is_refused(
    mesh: Door, headers: dict[str, str], body: bytes, status: int, field: str
) -> None:
    answer = await mesh.client.post("/v1/ingest", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert [each["field"] for each in answer.json()["error"].get("fields", [])] == ([field] if field else [])


async def test_a_body_that_is_cut_is_told_after_what_was_stored(mesh: Door) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n%s\r\n'
    headers = {"content-type": "multipart/form-data; boundary=b"}
    body = part % b"one" + part % b"two" + part % b"three"
    answer = await mesh.client.post("/v1/ingest", content=body, headers=headers)
    lines, last = read(answer)
    assert (lines[0]["outcome"], last["error"]["reason"]) == ("created", "MESSAGE_MALFORMED")


async def test_a_router_that_is_away_is_an_answer_of_its_own(door: Door) -> None:
    await door.router.stop()
    answer = await door.client.post("/v1/ingest", content=line(b"one"), headers=NDJSON)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "UNAVAILABLE"
    assert "retry-after" in answer.headers


async def test_a_stream_that_breaks_is_resumed(mesh: Door) -> None:
    tries: list[Any] = []

    def once_broken(request: router_pb2.IngestStreamRequest) -> Any:
        if not request.items:
            return []
        tries.append(request)
        if len(tries) == 1:
            return [Unavailable(Reason.DRAINING, "going away", retry_after_s=0.01)]
        return stored(request)

    mesh.router.answers["IngestStream"] = once_broken
    lines, last = read(await mesh.client.post("/v1/ingest", content=line(b"one"), headers=NDJSON))
    assert (lines[0]["outcome"], last["done"]["created"], len(tries)) == ("created", 1, 2)


async def test_answers_come_while_the_body_is_still_sent(mesh: Door) -> None:
    """The second item is sent once the first is answered."""
    host, port = mesh.host_and_port
    reader, writer = await asyncio.open_connection(host, port)
    head = (
        f"POST /v1/ingest HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked"
    )
    writer.write(head.encode() + b"\r\n\r\n")
    for number in range(3):
        sent = line(b"%d" % number, id=str(number))
        writer.write(b"%x\r\n%s\r\n" % (len(sent), sent))
        await writer.drain()
        assert b'"outcome":"created"' in await reader.readuntil(b'"created"}\n')
    writer.write(b"0\r\n\r\n")
    assert b'"items":3' in await reader.readuntil(b"0\r\n\r\n")
    writer.close()


async def test_the_body_is_read_no_faster_than_the_mesh_takes_it(mesh: Door) -> None:
    mesh.router.hold = asyncio.Event()
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while taken < 500:
            taken += 1
            yield line(b"x" * 200_000 + b"%d" % taken)

    mesh.router.held_methods = {"IngestStream"}
    sending = asyncio.create_task(mesh.client.post("/v1/ingest", content=endless(), headers=NDJSON))
    await until(lambda: taken > 50, "the window is full")
    before = -1
    while before != taken:
        before = taken
        await asyncio.sleep(0.3)
    # The window, and what the sockets hold.
    assert taken < 300
    mesh.router.hold.set()
    _, last = read(await sending)
    assert last["done"]["items"] == 500


async def test_a_client_that_leaves_ends_the_work(mesh: Door) -> None:
    mesh.router.hold = asyncio.Event()
    mesh.router.held_methods = {"IngestStream"}
    host, port = mesh.host_and_port
    _, writer = await asyncio.open_connection(host, port)
    writer.write(HEAD + b"content-length: 100000\r\n\r\n" + line(b"one") + b'{"base64": "AAA')
    await until(lambda: mesh.router.holding, "the stream runs")
    writer.close()
    # Well before the patience with a router that is away, which would end it as well.
    await until(lambda: mesh.router.cancelled == 1, "the stream is cancelled", seconds=15)
