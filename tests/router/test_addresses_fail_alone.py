"""Images by address among others: whatever an address does, it does to its own item or search."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from tests.router.conftest import Mesh
from tests.router.helpers import item, reason_of, request
from tests.support.tcp import tcp_server

SETTINGS: dict[str, Any] = {"uri_schemes": "http", "uri_private": True, "uri_timeout_seconds": 20}


class Site:
    """Answers with what a path asks for; `most` requests were open at a time."""

    def __init__(self) -> None:
        self.open = self.most = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
        except (asyncio.IncompleteReadError, OSError):
            # Its time was up before it had asked.
            writer.close()
            return
        self.open += 1
        self.most = max(self.most, self.open)
        if path.startswith(b"/slow"):
            await asyncio.sleep(0.2)
        if path == b"/never":
            await asyncio.Event().wait()
        self.open -= 1
        status, body = (b"304 Not Modified", b"") if path == b"/304" else (b"200 OK", path)
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
        with contextlib.suppress(OSError):
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    def uri(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    one = Site()
    async with tcp_server(one.serve) as one.port:
        yield one


def by_address(ref: str, uri: str, **fields: Any) -> router_pb2.IngestItem:
    return router_pb2.IngestItem(ref=ref, image=common_pb2.Image(uri=uri), **fields)


def search(**image: Any) -> router_pb2.SearchRequest:
    return router_pb2.SearchRequest(queries=[router_pb2.Query(image=common_pb2.Image(**image))])


BAD = ["http://127.0.0.1:99999/x", "http://[::1", "http://u:p@127.0.0.1/", "http://a\r\nb/", "http://xn--/"]


async def test_items_beside_a_bad_address_are_stored(unstarted: Mesh, site: Site) -> None:
    mesh = await unstarted.start(**SETTINGS)
    bad = [by_address(f"bad {n}", uri) for n, uri in enumerate([site.uri("/304"), *BAD])]
    good = [item("before"), *bad, item("after"), by_address("fetched", site.uri("/one"))]
    results = await mesh.ingest(*good)
    assert set(results) == {one.ref for one in good}
    assert {ref for ref, result in results.items() if result.HasField("item")} == {"before", "after", "fetched"}
    reasons = {reason_of(results[one.ref].error) for one in bad}
    assert reasons <= {"URI_FAILED", "URI_NOT_ALLOWED"}


async def test_searches_beside_a_bad_address_are_answered(unstarted: Mesh, site: Site) -> None:
    mesh = await unstarted.start(**SETTINGS)
    await mesh.ingest(item("a"))
    asked = [search(content=b"a"), *(search(uri=uri) for uri in [site.uri("/304"), *BAD]), search(uri=site.uri("/a"))]
    answer = await mesh.router.BatchSearch(router_pb2.BatchSearchRequest(searches=asked), timeout=30)
    kinds = [result.WhichOneof("outcome") for result in answer.results]
    assert kinds == ["response", *["error"] * (len(BAD) + 1), "response"]


async def test_addresses_of_a_batch_are_fetched_side_by_side_within_its_deadline(unstarted: Mesh, site: Site) -> None:
    mesh = await unstarted.start(**SETTINGS)
    await mesh.ingest(item("a"))
    asked = [search(uri=site.uri(f"/slow{n}")) for n in range(12)] + [search(uri=site.uri("/never"))]
    answer = await mesh.router.BatchSearch(router_pb2.BatchSearchRequest(searches=asked), timeout=8)
    kinds = [result.WhichOneof("outcome") for result in answer.results]
    assert kinds == [*["response"] * 12, "error"]
    assert reason_of(answer.results[-1].error) == "URI_UNREACHABLE"
    assert site.most > 4


async def test_fetched_images_of_a_stream_are_bounded_and_all_answered(unstarted: Mesh, site: Site) -> None:
    """Images of a kilobyte; some sixty fit at a time, and items of one id keep their order."""
    limits = {"uri_bytes": 1, "max_message_bytes": 64 * 1024, "max_image_bytes": 16 * 1024, "max_items": 256}
    mesh = await unstarted.start(**(SETTINGS | limits))
    items = [by_address(str(n), site.uri(f"/{n}-".ljust(1000, "x")), id=f"id {n % 20}") for n in range(60)]
    results = await mesh.ingest_messages([request(items[:20]), request(items[20:40]), request(items[40:])])
    assert {ref for ref, result in results.items() if result.HasField("item")} == {one.ref for one in items}
    assert mesh.stored()["id 7"].image_uri == items[47].image.uri
