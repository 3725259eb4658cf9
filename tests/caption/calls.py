"""Calls of a captioner under test, and a model whose words can be held."""

import asyncio

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh_inference.batching.batcher import Batcher
from tests.caption.conftest import Client


def ask(client: Client, contents: list[bytes], **options: object) -> asyncio.Future[caption_pb2.CaptionImagesResponse]:
    request = caption_pb2.CaptionImagesRequest(
        images=[common_pb2.Image(content=content) for content in contents],
        options=caption_pb2.CaptionOptions(**options),  # type: ignore[arg-type]  # what the tests pass fits
    )
    return asyncio.ensure_future(client.stub.CaptionImages(request))


def items(contents: list[bytes], count: int, start: int = 0) -> list[caption_pb2.CaptionStreamItem]:
    return [
        caption_pb2.CaptionStreamItem(ref=str(number), image=common_pb2.Image(content=contents[number % len(contents)]))
        for number in range(start, start + count)
    ]


def queue(client: Client) -> Batcher[object, object]:
    return client.app.models.default.batcher
