"""What all tools share: the mesh, the folders, the thumbnails."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lensmesh_cli.mcp.failures import Refused
from lensmesh_cli.mcp.places import AllowedFolders
from lensmesh_cli.mcp.thumbnails import ThumbnailSource
from lensmesh_cli.reading import MOST_BYTES

if TYPE_CHECKING:
    from lensmesh_client import Client, Limits
    from lensmesh_client.connection import Connection

LIMITS_S = 60.0
"""Seconds that the mesh's limits are believed before they are asked for again."""


@dataclass(slots=True)
class MeshAccess:
    """A mesh, and what of this machine its tools may read."""

    client: Client
    connection: Connection
    """For code that speaks a contract itself."""
    folders: AllowedFolders
    thumbnails: ThumbnailSource
    _limits: Limits | None = field(default=None, init=False)
    _asked_at: float = field(default=0.0, init=False)

    async def limits(self) -> Limits:
        """Return what the mesh accepts. Raises LensmeshError."""
        if self._limits is None or time.monotonic() - self._asked_at > LIMITS_S:
            self._limits = (await self.client.status()).limits
            self._asked_at = time.monotonic()
        return self._limits

    async def image(self, path: str, image_base64: str) -> bytes:
        """Return the image that a call gives by exactly one of the two. Raises Refused and LensmeshError."""
        if bool(path) == bool(image_base64):
            raise Refused("give the image by exactly one of path and image_base64", "IMAGE_MISSING")
        limits = await self.limits()
        most = limits.max_image_bytes or limits.max_message_bytes or MOST_BYTES
        if path:
            return await asyncio.to_thread(self.folders.image, path, most)
        return await asyncio.to_thread(decoded, image_base64, most)


def decoded(text: str, most_bytes: int) -> bytes:
    """Return the bytes of a base64 text, or of a data URI. Raises Refused."""
    if text[:5].lower() == "data:":
        text = text[text.find(",") + 1 :]
    # Some encoders end their lines after 76 characters or fewer.
    if len(text) > (most_bytes + 2) // 3 * 4 * 1.05 + 100:
        raise _too_large(f"about {len(text) // 4 * 3}", most_bytes)
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(
            "image_base64 is no base64: encode the image file's bytes (RFC 4648, with padding)", "IMAGE_UNDECODABLE"
        ) from error
    if not content:
        raise Refused("image_base64 holds no bytes: encode an image file", "IMAGE_EMPTY")
    if len(content) > most_bytes:
        raise _too_large(str(len(content)), most_bytes)
    return content


def _too_large(size: str, most_bytes: int) -> Refused:
    return Refused(
        f"the image of image_base64 has {size} bytes and the mesh takes {most_bytes}: scale it down", "IMAGE_TOO_LARGE"
    )
