"""The client's method that reads images which the mesh keeps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_client import requests
from lensmesh_client.connection import Connection
from lensmesh_client.tracing import operation


class ImageForm(StrEnum):
    """Form in which a mesh keeps images."""

    THUMBNAIL = "thumbnail"
    """Made small, as WebP."""
    ORIGINAL = "original"
    """The file as it came."""


_FORMS: Final = {
    ImageForm.THUMBNAIL: router_pb2.IMAGE_FORM_THUMBNAIL,
    ImageForm.ORIGINAL: router_pb2.IMAGE_FORM_ORIGINAL,
}


@dataclass(frozen=True, slots=True)
class KeptImage:
    """An image that the mesh keeps."""

    content: bytes
    """The bytes of an image file."""
    media_type: str
    """ "image/webp" of a thumbnail; "application/octet-stream" of a file of no known kind."""


class MediaCalls:
    """RouterService.GetImage."""

    _connection: Connection

    @operation("lensmesh image")
    async def image(
        self,
        content_digest: str | bytes | bytearray | memoryview,
        *,
        form: ImageForm | str = ImageForm.THUMBNAIL,
        timeout_s: float | None = None,
    ) -> KeptImage:
        """Read an image that was ingested, as far as the mesh keeps it.

        Args:
            content_digest: The SHA-256 of the image's bytes, as `Hit.content_digest` and `Item.content_digest` tell
                it in hexadecimal, or its 32 bytes.
            form: "thumbnail", or "original" for the file as it came. `status().media` tells what is kept.
            timeout_s: Seconds until an answer; None is the client's own.

        Returns:
            The bytes of an image file, and its media type.

        Raises:
            InvalidInput: The digest is none.
            NotFound: No image of this content is kept.
            PreconditionFailed: The mesh keeps no images of this form.
            Unavailable: Where they are kept does not answer.
            LensmeshError: Any other failure.
        """
        request = router_pb2.GetImageRequest(
            content_digest=_digest(content_digest), form=requests.chosen("form", form, ImageForm, _FORMS)
        )
        answer = await self._connection.call(self._connection.router.GetImage, request, timeout_s)
        return KeptImage(answer.content, answer.media_type)


def _digest(given: object) -> bytes:
    """Return the bytes of a digest in either form. What is no digest at all, the router refuses."""
    if isinstance(given, bytes | bytearray | memoryview):
        return bytes(given)
    try:
        return bytes.fromhex(given)  # type: ignore[arg-type]  # what is no text raises TypeError
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            Reason.DIGEST_INVALID,
            f"content_digest is {given!r:.80}: give the hexadecimal SHA-256 of the image's bytes, or these 32 bytes",
            field="content_digest",
        ) from error
