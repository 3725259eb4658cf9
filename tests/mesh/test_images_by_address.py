"""Images by address, where the settings allow it: fetched once, stored and found like any other."""

import hashlib
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest

from lensmesh.caption.v1 import caption_pb2, caption_pb2_grpc
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from tests.mesh import images
from tests.mesh.conftest import running_mesh

IMAGE = images.plain("purple")


class Site(BaseHTTPRequestHandler):
    """One image, and a page that is none."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200 if self.path in ("/image.png", "/page") else 404)
        self.end_headers()
        self.wfile.write(IMAGE if self.path == "/image.png" else b"<html>")

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def site() -> Iterator[str]:
    Site.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
async def channel(database: str) -> AsyncIterator[grpc.aio.Channel]:
    """A router of a mesh that may fetch from this machine."""
    async with (
        running_mesh(database, uri_schemes="http", uri_private=True) as addresses,
        open_channel(addresses["router"]) as channel,
    ):
        yield channel


async def test_ingest_and_search_by_address(channel: grpc.aio.Channel, site: str) -> None:
    stub = router_pb2_grpc.RouterServiceStub(channel)
    options = router_pb2.IngestOptions(collection="by-address")
    uri = f"{site}/image.png"
    item = router_pb2.IngestItem(ref="a", image=common_pb2.Image(uri=uri))
    answer = await stub.Ingest(router_pb2.IngestRequest(options=options, item=item))
    assert answer.item.id == hashlib.sha256(IMAGE).hexdigest()
    assert answer.item.caption.text
    assert Site.asked == ["/image.png"]
    query = router_pb2.Query(image=common_pb2.Image(uri=uri))
    found = await stub.Search(router_pb2.SearchRequest(collection="by-address", queries=[query]))
    assert found.hits[0].score > 0.999
    assert found.hits[0].item.image_uri == uri
    status = await stub.GetStatus(router_pb2.GetStatusRequest())
    assert list(status.limits.uri_schemes) == ["http"]


async def test_an_address_that_fails_fails_its_item_alone(channel: grpc.aio.Channel, site: str) -> None:
    images = [
        common_pb2.Image(uri=f"{site}/image.png"),
        common_pb2.Image(uri=f"{site}/missing.png"),
        common_pb2.Image(uri="file:///etc/passwd"),
        common_pb2.Image(uri=f"{site}/page"),
        common_pb2.Image(content=IMAGE),
    ]
    reasons = [None, Reason.URI_FAILED, Reason.URI_NOT_ALLOWED, Reason.IMAGE_FORMAT_UNSUPPORTED, None]
    encoder = encoder_pb2_grpc.EncoderServiceStub(channel)
    encoded = (await encoder.EncodeImages(encoder_pb2.EncodeImagesRequest(images=images))).results
    assert [from_status(one.error).reason if one.HasField("error") else None for one in encoded] == reasons
    assert encoded[0].embedding == encoded[4].embedding
    captioner = caption_pb2_grpc.CaptionerServiceStub(channel)
    told = (await captioner.CaptionImages(caption_pb2.CaptionImagesRequest(images=images))).results
    assert [from_status(one.error).reason if one.HasField("error") else None for one in told] == reasons
    assert told[0].caption == told[4].caption
