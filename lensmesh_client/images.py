"""Turns what a caller has (bytes, a path, a PIL image) into the bytes of an image file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.files import TooLargeError, read_file
from lensmesh_chassis.reasons import Reason

if TYPE_CHECKING:
    from PIL import Image

ImageLike: TypeAlias = "bytes | bytearray | memoryview | str | os.PathLike[str] | Image.Image"

# Of a server that tells no limit: far more than any takes.
MOST_BYTES = 1 << 30
# What a PNG can hold without loss; any other mode is sent as RGB.
PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})


def image_bytes(image: ImageLike, field: str = "image", max_bytes: int = 0) -> bytes:
    """Return the encoded image: bytes as they are, a file's content, or a PIL image as PNG.

    `max_bytes` is Limits.max_image_bytes, 0 for a server that tells none: a larger file is refused unread. Raises
    InvalidInput with reason IMAGE_MISSING for what cannot be read or is no regular file, IMAGE_TOO_LARGE for a file
    beyond `max_bytes`. Whether the bytes are an image is the service's to say.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        return _read(os.fsdecode(image), field, max_bytes or MOST_BYTES)
    if hasattr(image, "save"):
        try:
            return _as_png(image)
        except Exception as error:
            # A PIL image reads its file now; for a damaged one Pillow raises many kinds.
            raise InvalidInput(
                Reason.IMAGE_MISSING, f"{field} cannot be read: {type(error).__name__}: {error}", field=field
            ) from error
    raise InvalidInput(
        Reason.IMAGE_MISSING, f"{field} is a {type(image).__name__}: give bytes, a path or a PIL image", field=field
    )


def _read(path: str, field: str, max_bytes: int) -> bytes:
    try:
        return read_file(Path(path), max_bytes).data
    except TooLargeError as error:
        raise InvalidInput(
            Reason.IMAGE_TOO_LARGE,
            f"{path} has {error.size} bytes and the limit is {max_bytes}: send a smaller file",
            field=field,
            metadata={"size_bytes": error.size, "max_image_bytes": max_bytes},
        ) from error
    except (OSError, ValueError) as error:
        # ValueError: a path with a NUL in it.
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InvalidInput(Reason.IMAGE_MISSING, f"{path} cannot be read: {why}", field=field) from error


def listed(images: Iterable[ImageLike] | ImageLike) -> list[ImageLike]:
    """Return one image or several as a list: bytes and paths are iterable or look so, and still are one image."""
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
