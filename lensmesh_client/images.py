"""Turns what a caller has (bytes, a path, a PIL image) into the bytes of an image file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason

if TYPE_CHECKING:
    from PIL import Image

ImageLike: TypeAlias = "bytes | bytearray | memoryview | str | os.PathLike[str] | Image.Image"

# What a PNG can hold without loss; any other mode is sent as RGB.
PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})


def image_bytes(image: ImageLike, field: str = "image") -> bytes:
    """The encoded picture: bytes as they are, a file's content, or a PIL image as PNG.

    Raises InvalidInput with reason IMAGE_MISSING for a file that cannot be read. Whether the bytes are a picture is
    the service's to say.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        try:
            return Path(image).read_bytes()
        except (OSError, ValueError) as error:
            # ValueError: a path with a NUL in it.
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise InvalidInput(
                Reason.IMAGE_MISSING, f"{os.fspath(image)} cannot be read: {why}", field=field
            ) from error
    if hasattr(image, "save"):
        return _as_png(image)
    raise InvalidInput(
        Reason.IMAGE_MISSING, f"{field} is a {type(image).__name__}: give bytes, a path or a PIL image", field=field
    )


def listed(images: Iterable[ImageLike] | ImageLike) -> list[ImageLike]:
    """One picture or several, as a list: bytes and paths are iterable or look so, and still are one picture."""
    if isinstance(images, bytes | bytearray | memoryview | str | os.PathLike):
        return [images]
    return list(images) if isinstance(images, Iterable) else [images]


def _as_png(image: Image.Image) -> bytes:
    if image.mode not in PNG_MODES:
        image = image.convert("RGB")
    buffer = io.BytesIO()
    # Level 1: half the size of raw pixels at a tenth of the time of the default; it travels once.
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
