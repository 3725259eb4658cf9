"""Items are read at once where they are here, and at the same time where they have to be fetched."""

from __future__ import annotations

import asyncio
import functools

from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.errors import InvalidInput, Unavailable
from lensmesh_chassis.images.inputs import Fetching, image_content
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.items import EngineItem
from lensmesh_serving.reading import Reader, read_here, read_items

Item = EngineItem[bytes, bytes]


class Elsewhere:
    """Fetches only when all that is asked for has been asked."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.asked: list[str] = []
        self.all_asked = asyncio.Event()

    async def fetch(self, uri: str, field: str, /) -> bytes:
        self.asked.append(uri)
        if len(self.asked) == self.expected:
            self.all_asked.set()
        await self.all_asked.wait()
        if uri == "nobody":
            raise Unavailable(Reason.URI_UNREACHABLE, f"{field}: nobody is there")
        return uri.encode()


async def read(image: common_pb2.Image, field: str, fetches: Fetching) -> Item:
    content = await image_content(image, field, fetches)
    return EngineItem(prepare=lambda: content, size_bytes=1, content=content)


def reader(number: int, **source: str | bytes) -> Reader[Item]:
    image = common_pb2.Image(**source)  # type: ignore[arg-type]  # one of its two sources
    return functools.partial(read, image, f"images[{number}]")


async def test_each_is_read_in_its_place_and_fails_alone() -> None:
    reads = [
        reader(0, content=b"here"),
        reader(1, uri="there"),
        reader(2),
        reader(3, uri="nobody"),
        reader(4, uri="too"),
    ]
    async with asyncio.timeout(30):
        items = await read_items(reads, Elsewhere(3))
    contents = [item.content if isinstance(item, EngineItem) else type(item) for item in items]
    assert contents == [b"here", b"there", InvalidInput, Unavailable, b"too"]


async def test_what_came_with_the_message_is_read_without_waiting() -> None:
    here = read_here(reader(0, content=b"here"))
    assert isinstance(here, EngineItem)
    assert here.content == b"here"
    assert read_here(reader(0, uri="there")) is None
    assert isinstance(read_here(reader(0)), InvalidInput)
