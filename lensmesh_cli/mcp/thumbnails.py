"""Small images that stand beside hits in an answer."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lensmesh_cli.folders import LocalImages
from lensmesh_cli.thumbnails import small_jpeg
from lensmesh_client import LensmeshError, NotBuilt, PreconditionFailed

if TYPE_CHECKING:
    from lensmesh_client import Client, Hit, Item

MOST = 20
"""The images of one answer that have a thumbnail: the first ones."""
MOST_SECONDS = 5.0
"""Time for the thumbnails of one answer. Those that are not made by then are left out."""
MOST_BYTES = 256 << 10
TYPES = frozenset({"image/webp", "image/jpeg", "image/png", "image/gif"})
AT_ONCE = 8
NONE_KEPT_S = 60.0
"""Seconds that a mesh which keeps no thumbnails is not asked again."""


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


class KeptThumbnails:
    """Thumbnails that the mesh keeps of ingested images."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._ask_again_at = 0.0

    async def of(self, images: Sequence[Hit | Item]) -> list[SmallImage | None]:
        """Return a thumbnail of each, None where there is none."""
        room = asyncio.Semaphore(AT_ONCE)

        async def kept(image: Hit | Item) -> SmallImage | None:
            async with room:
                return await self._kept(image.content_digest)

        made = await asyncio.gather(*map(kept, images[:MOST]))
        return [*made, *[None] * (len(images) - len(made))]

    async def _kept(self, digest: str) -> SmallImage | None:
        if not digest or time.monotonic() < self._ask_again_at:
            return None
        try:
            image = await self._client.image(digest, timeout_s=MOST_SECONDS)
        except (PreconditionFailed, NotBuilt):
            # This mesh keeps none; that may change with its next start.
            self._ask_again_at = time.monotonic() + NONE_KEPT_S
            return None
        except LensmeshError:
            # None of this image, or not now: an answer without a thumbnail is still one.
            return None
        if image.media_type not in TYPES or len(image.content) > MOST_BYTES:
            return None
        return SmallImage(base64.b64encode(image.content).decode(), image.media_type)


class FirstThumbnails:
    """Thumbnails of the first source that has one."""

    def __init__(self, *sources: ThumbnailSource) -> None:
        self._sources = sources

    async def of(self, images: Sequence[Hit | Item]) -> list[SmallImage | None]:
        """Return a thumbnail of each, None where there is none."""
        made: list[SmallImage | None] = [None] * min(len(images), MOST)
        for source in self._sources:
            missing = [index for index, small in enumerate(made) if small is None]
            if missing:
                found = await source.of([images[index] for index in missing])
                for index, small in zip(missing, found, strict=True):
                    made[index] = small
        return [*made, *[None] * (len(images) - len(made))]


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
