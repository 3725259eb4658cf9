"""Bodies that are too large, cut, nested, of another type, or not text; a router that is away or goes away."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from lensmesh_chassis.errors import DeadlineExceeded, Unavailable
from lensmesh_chassis.reasons import Reason
from tests.http.conftest import Door
from tests.http.rest.answers import JSON, PNG

FORM = {"content-type": "multipart/form-data; boundary=b"}
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


async def refused(door: Door, body: bytes, headers: dict[str, str], path: str = "/v1/images") -> tuple[int, str]:
    """Return the status and the reason of an answer."""
    answer = await door.client.post(path, content=body, headers=headers)
    assert "Ingest" not in door.router.requests
    return answer.status_code, answer.json()["error"]["reason"]


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        (b"", FORM, 400, "MESSAGE_MALFORMED"),
        (b"--b--\r\n", FORM, 400, "IMAGE_MISSING"),
        (FILE + b"x", FORM, 400, "MESSAGE_MALFORMED"),
        (FILE + b"x\r\n--b", FORM, 400, "MESSAGE_MALFORMED"),
        (FILE[:30], FORM, 400, "MESSAGE_MALFORMED"),
        ((FILE + b"x\r\n") * 1000 + b"--b--\r\n", FORM, 400, "TOO_MANY_ITEMS"),
        (b"--b\r\n" + b"a: b\r\n" * 100 + b"\r\nx\r\n--b--\r\n", FORM, 400, "MESSAGE_MALFORMED"),
        (b"--b\r\nContent-Disposition: " + b"x" * 9000 + b"\r\n\r\nx\r\n--b--\r\n", FORM, 400, "MESSAGE_MALFORMED"),
        (b'--b\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n--b--\r\n', FORM, 400, "MESSAGE_MALFORMED"),
        (FILE + b"x\r\n--b--\r\n", {"content-type": "multipart/form-data"}, 400, "MESSAGE_MALFORMED"),
        (FILE + b"x\r\n--b--\r\n", {"content-type": "image/png"}, 415, "OPTION_INVALID"),
        (b"{}", {}, 415, "OPTION_INVALID"),
        (b"\xff", JSON, 400, "MESSAGE_MALFORMED"),
        (b"[" * 1000, JSON, 400, "MESSAGE_MALFORMED"),
        (b'{"metadata": ' + b'{"a":' * 1000 + b"1" + b"}" * 1001, JSON, 400, "MESSAGE_MALFORMED"),
        (b'{"base64": "AAAA", "metadata": ' + b'{"a":' * 90 + b"1" + b"}" * 91, JSON, 400, "METADATA_TOO_DEEP"),
        (b"[" + b"1," * 300_000 + b"1]", JSON, 400, "TOO_MANY_ITEMS"),
        (b'{"base64": "\\ud800"}', JSON, 400, "MESSAGE_MALFORMED"),
        (b'{"base64": "AAAA", "id": "\\ud800"}', JSON, 400, "OPTION_INVALID"),
        (b"", JSON, 400, "MESSAGE_MALFORMED"),
        (b"NaN", JSON, 400, "MESSAGE_MALFORMED"),
    ],
)
async def test_a_body_that_cannot_be_read(
    door: Door, body: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    assert await refused(door, body, headers) == (status, reason)


async def test_a_body_is_refused_by_its_size_before_it_is_read(door: Door) -> None:
    """Of two gigabytes of a part, and of a hundred megabytes of JSON, nothing has to come."""
    host, port = door.host_and_port
    for kind, size in (("multipart/form-data; boundary=b", 2 << 30), ("application/json", 100 << 20)):
        reader, writer = await asyncio.open_connection(host, port)
        head = f"POST /v1/images HTTP/1.1\r\nhost: {host}\r\ncontent-type: {kind}\r\ncontent-length: {size}\r\n\r\n"
        writer.write(head.encode() + FILE)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 413")
        writer.close()


async def test_a_body_without_a_size_ends_at_the_limit(stopped_door: Door) -> None:
    door = await stopped_door.start(body_bytes=64 * 1024)

    async def endless() -> AsyncIterator[bytes]:
        yield FILE
        for _ in range(20):
            yield b"x" * 10_000

    answer = await door.client.post("/v1/images", content=endless(), headers=FORM)
    assert (answer.status_code, answer.json()["error"]["reason"]) == (413, "MESSAGE_TOO_LARGE")


async def test_boundaries_may_fall_anywhere(door: Door) -> None:
    """A body that comes byte by byte is the same body."""

    async def slowly() -> AsyncIterator[bytes]:
        body = FILE + PNG + b'\r\n--b\r\nContent-Disposition: form-data; name="id"\r\n\r\na/1\r\n--b--\r\n'
        for number in range(len(body)):
            yield body[number : number + 1]

    answer = await door.client.post("/v1/images", content=slowly(), headers=FORM)
    assert answer.status_code == 200, answer.text
    sent = door.router.requests["Ingest"][-1].item
    assert (sent.image.content, sent.id) == (PNG, "a/1")


async def test_a_router_that_is_away(door: Door) -> None:
    await door.router.stop()
    for path in ("/v1/search?q=a", "/v1/images"):
        answer = await door.client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "UNAVAILABLE"), path
        assert int(answer.headers["retry-after"]) >= 1


async def test_a_router_that_drains_or_is_slow(door: Door) -> None:
    door.router.answers["Search"] = Unavailable(Reason.DRAINING, "going away", retry_after_s=2)
    answer = await door.client.get("/v1/search?q=a")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    door.router.answers["Search"] = DeadlineExceeded(Reason.DEADLINE_EXCEEDED, "late")
    assert (await door.client.get("/v1/search?q=a")).status_code == 504


async def test_a_page_of_another_origin_changes_nothing(door: Door) -> None:
    foreign = {"origin": "https://evil.example"}
    for method, path in (("POST", "/v1/images"), ("DELETE", "/v1/images/a"), ("POST", "/v1/ingest")):
        answer = await door.client.request(method, path, headers=foreign | FORM, content=FILE + b"x\r\n--b--\r\n")
        assert answer.status_code == 403
    assert not door.router.requests


async def test_an_error_is_json_whatever_was_asked(door: Door) -> None:
    answer = await door.client.get("/v1/nothing")
    assert answer.status_code == 404
    assert json.loads(answer.content)["error"]["code"] == "NOT_FOUND"
