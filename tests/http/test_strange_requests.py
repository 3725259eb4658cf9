"""What no client of HTTP sends: it is refused as JSON, holds nothing, and takes nobody else's place."""

import asyncio
import contextlib
import json

import pytest

from http_svc.serving.protocol import HEAD_BYTES
from tests.http.conftest import Door
from tests.http.raw_requests import answer_of, connected, head
from tests.support.waiting import until

SEARCH = "/lensmesh.router.v1.RouterService/Search"
HANDSHAKE = ("upgrade: websocket", "connection: upgrade", "sec-websocket-version: 13")
KEY = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="
JSON_TYPE = "content-type: application/json"
CHUNKED = head("/v1/search", JSON_TYPE, "transfer-encoding: chunked")


async def refuses(writer: asyncio.StreamWriter, data: bytes) -> bool:
    """Write the same again and again. Return whether the connection breaks, before some 100 MB are written."""
    try:
        for _ in range(100_000_000 // len(data)):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        return True
    return False


@pytest.mark.parametrize(
    "sent",
    [
        head("/livez", "x-a: " + "a" * HEAD_BYTES, method="GET"),
        head("/livez", *(f"x-{number}: a" for number in range(2000)), method="GET"),
        # It has no end: nothing of it is told by the parser.
        b"GET /livez HTTP/1.1\r\nx-a: " + b"a" * HEAD_BYTES,
    ],
)
async def test_a_head_that_is_too_large_is_refused(door: Door, sent: bytes) -> None:
    async with connected(door) as (reader, writer):
        writer.write(sent)
        status, shown = await answer_of(reader)
    assert status == 431
    assert str(HEAD_BYTES) in shown["error"]["message"]


@pytest.mark.parametrize("before", [b"2;", b"2\r\n{}\r\n0\r\nx: "])
async def test_what_stands_around_the_pieces_of_a_body_is_bounded(door: Door, before: bytes) -> None:
    async with connected(door) as (_, writer):
        writer.write(CHUNKED + before)
        assert await refuses(writer, b"a" * HEAD_BYTES)


async def test_a_body_that_breaks_is_told_so(door: Door) -> None:
    async with connected(door) as (reader, writer):
        writer.write(CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n")
        status, _ = await answer_of(reader)
    assert status == 400


async def test_what_is_no_request_ends_the_answer_before_it(door: Door) -> None:
    door.router.hold = asyncio.Event()
    async with connected(door) as (reader, writer):
        writer.write(head(SEARCH, JSON_TYPE, "content-length: 2") + b"{}")
        await until(lambda: door.router.entered, "the call at the router")
        writer.write(b"\0\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""


@pytest.mark.parametrize(
    "sent",
    [
        head("/v1/search", "content-length: 6", "transfer-encoding: chunked"),
        head("/v1/search", "content-length: 2", "content-length: 5"),
        head("/v1/search", "content-length: +2"),
        head("/livez", "x-a: b", " c", method="GET"),
        head("/livez", method="BREW"),
        b"\x16\x03\x01\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_told_so(door: Door, sent: bytes) -> None:
    async with connected(door) as (reader, writer):
        writer.write(sent)
        status, shown = await answer_of(reader)
        assert await reader.read() == b""
    assert (status, shown["error"]["reason"]) == (400, "MESSAGE_MALFORMED")


@pytest.mark.parametrize(
    "sent",
    [
        head("/ws/index-progress", *HANDSHAKE, KEY, "x-a: " + "a" * 20_000, method="GET"),
        head("/ws/index-progress", *HANDSHAKE, "content-length: 5") + b"hello",
    ],
)
async def test_a_handshake_that_cannot_be_read_ends(door: Door, sent: bytes) -> None:
    async with connected(door) as (reader, writer):
        writer.write(sent)
        status, _ = await answer_of(reader)
        assert await reader.read() == b""
    assert status == 400


async def test_pings_of_a_client_that_takes_no_answer_end_it(door: Door) -> None:
    async with connected(door) as (reader, writer):
        writer.write(head("/ws/index-progress", *HANDSHAKE, KEY, method="GET"))
        await reader.readuntil(b"\r\n\r\n")
        pings = (b"\x89\xfd\0\0\0\0" + b"p" * 125) * 2000
        assert await refuses(writer, pings)


async def test_a_refused_handshake_tells_why(door: Door) -> None:
    async with connected(door) as (reader, writer):
        writer.write(head("/ws/index-progress", *HANDSHAKE, KEY, "origin: https://evil.example", method="GET"))
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"LENSMESH_HTTP_ORIGINS" in answer


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "null", "localhost", "://"])
async def test_an_origin_that_is_none_is_refused(door: Door, origin: str) -> None:
    async with connected(door) as (reader, writer):
        writer.write(head("/healthz", f"origin: {origin}", method="GET"))
        status, _ = await answer_of(reader)
    assert status == 403


@pytest.mark.parametrize(
    ("site", "method", "expected"),
    [("cross-site", "POST", 403), ("same-site", "DELETE", 403), ("same-origin", "DELETE", 404), ("none", "GET", 404)],
)
async def test_a_browser_that_sends_no_origin_changes_nothing_of_another_site(
    door: Door, site: str, method: str, expected: int
) -> None:
    async with connected(door) as (reader, writer):
        lines = (f"sec-fetch-site: {site}", "sec-fetch-mode: navigate")
        writer.write(head("/v1/nothing", *lines, method=method))
        status, _ = await answer_of(reader)
    assert status == expected


@pytest.mark.parametrize("path", ["/v1/search", "/v1/ingest", "/embed/text"])
async def test_a_packed_body_is_refused(door: Door, path: str) -> None:
    async with connected(door) as (reader, writer):
        writer.write(head(path, JSON_TYPE, "content-encoding: gzip", "content-length: 2") + b"{}")
        status, shown = await answer_of(reader)
    assert status == 415
    assert "gzip" in json.dumps(shown)
