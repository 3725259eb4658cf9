"""What an encoded picture says of itself: all that is checked before a pixel is decoded."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Final

from PIL import Image, UnidentifiedImageError

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.pictures.damage import damaged
from lensmesh_inference.pictures.limits import FORMATS, ImageLimits

_ACCEPTED_MAGIC: Final = (b"\xff\xd8", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_OTHER_MAGIC: Final[Mapping[str, tuple[int, bytes]]] = {
    "HEIC or AVIF": (4, b"ftyp"),
    "JPEG 2000": (0, b"\0\0\0\x0cjP"),
    "JPEG XL": (0, b"\xff\x0a"),
    "Photoshop": (0, b"8BPS"),
    "PDF": (0, b"%PDF"),
    "SVG": (0, b"<svg"),
    "XML or SVG": (0, b"<?xml"),
    "ICO": (0, b"\0\0\1\0"),
}


def open_picture(content: bytes, limits: ImageLimits, field: str) -> Image.Image:
    """A picture whose header was read and is within limits, nothing decoded yet.

    Raises ``InvalidInput`` with a reason of its own for each way to be bad.
    """
    if not content:
        raise InvalidInput(Reason.IMAGE_EMPTY, f"{field} is empty: send the bytes of an encoded picture.", field=field)
    if len(content) > limits.max_bytes:
        raise InvalidInput(
            Reason.IMAGE_TOO_LARGE,
            f"{field} has {len(content)} bytes, the limit is {limits.max_bytes}: send it smaller or more compressed.",
            field=field,
            metadata={"bytes": len(content), "max_image_bytes": limits.max_bytes},
        )
    picture = _open(content, field)
    _check_size(picture, limits, field)
    return picture


def _open(content: bytes, field: str) -> Image.Image:
    # Pillow's own bomb check is one limit for the whole process, and only warns up to twice that limit. Ours is
    # exact, per service, and made from the same header before any decoding.
    Image.MAX_IMAGE_PIXELS = None
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        if content.startswith(_ACCEPTED_MAGIC):
            raise damaged(content, error, field) from error
        for name, (start, magic) in _OTHER_MAGIC.items():
            if content[start:].startswith(magic):
                raise InvalidInput(
                    Reason.IMAGE_FORMAT_UNSUPPORTED,
                    f"{field} looks like {name}: convert it to one of {', '.join(FORMATS)}.",
                    field=field,
                    metadata={"format": name},
                ) from error
        raise InvalidInput(
            Reason.IMAGE_UNDECODABLE,
            f"{field} is not a picture in a known format: send one of {', '.join(FORMATS)}.",
            field=field,
        ) from error
    except Exception as error:
        raise damaged(content, error, field) from error


def _check_size(picture: Image.Image, limits: ImageLimits, field: str) -> None:
    width, height = picture.size
    facts = {"width": width, "height": height, "max_image_pixels": limits.max_pixels}
    if width * height > limits.max_pixels:
        raise InvalidInput(
            Reason.IMAGE_TOO_MANY_PIXELS,
            f"{field} is {width} x {height} = {width * height} pixels, the limit is {limits.max_pixels}: "
            "scale it down.",
            field=field,
            metadata=facts,
        )
    if max(width, height) > limits.max_aspect * min(width, height):
        raise InvalidInput(
            Reason.IMAGE_TOO_MANY_PIXELS,
            f"{field} is {width} x {height}: one side is more than {limits.max_aspect} times the other, and would "
            "grow without measure where a model scales the short side to its own size. Crop it.",
            field=field,
            metadata=facts,
        )
