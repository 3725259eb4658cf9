"""Small images that stand beside hits in an answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lensmesh_cli.folders import LocalImages
from lensmesh_cli.thumbnails import small_jpeg

if TYPE_CHECKING:
    from lensmesh_client import Hit, Item

MOST = 20
"""The images of one answer that have a thumbnail: the first ones."""
MOST_SECONDS = 5.0
"""Time for the thumbnails of one answer. Those that are not made by then are left out."""


@dataclass(frozen=True, slots=True)
class SmallImage:
    """A small image as MCP carries it."""

    data: str
    """Its file in base64."""
    mime_type: str


class ThumbnailSource(Protocol):
    """A place that has thumbnails of items."""

    async def of(self, images: Sequence[Hit | Item]) -> list[SmallImage | None]:
        """Return a thumbnail of each, None where there is none."""
        ...


class LocalThumbnails:
    """Thumbnails made of the files that items name as their `image_uri`, where these lie below allowed folders."""

    def __init__(self, local: LocalImages) -> None:
        self._local = local
        # One at a time: a decoder's memory is large, and its messages are kept off standard error process-wide.
        self._alone = threading.Lock()

    async def of(self, images: Sequence[Hit | Item]) -> list[SmallImage | None]:
        """Return a thumbnail of each, None where there is none."""
        return await asyncio.to_thread(self._made, images)

    def _made(self, images: Sequence[Hit | Item]) -> list[SmallImage | None]:
        made: list[SmallImage | None] = [None] * len(images)
        with self._alone:
            ends = time.monotonic() + MOST_SECONDS
            for index, image in enumerate(images[:MOST]):
                if time.monotonic() > ends:
                    break
                content = self._local.of(image)
                small = None if content is None else small_jpeg(content)
                if small is not None:
                    kind, _, data = small.uri.removeprefix("data:").partition(";base64,")
                    made[index] = SmallImage(data, kind)
        return made
