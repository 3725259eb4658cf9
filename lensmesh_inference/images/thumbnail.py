"""Thumbnails: images made small for people to look at, as lossy WebP.

They are made of what is decoded for a model, upright and opaque, and hold no metadata. Their bytes and the time that
they take depend on their own size alone, and not on what an image shows: noise is compressed more where it must be.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from lensmesh_chassis.thumbnails import most_bytes
from lensmesh_inference.images.jpeg import decode_jpeg, part_of
from lensmesh_inference.images.orientation import UPRIGHT, is_sideways, turned

Pixels: TypeAlias = npt.NDArray[np.uint8]

# The second fits where the first does not: even of black and white noise the first needs three quarters of the bytes.
_QUALITIES: Final = (75, 20)
# Of libwebp's 0 to 6: nearly as small as 4, in half the time.
_METHOD: Final = 1
# What is more than so many times too large is averaged first.
_REDUCING_GAP: Final = 2.0


@dataclass(frozen=True)
class Thumbnail:
    """A WebP file, and its width and height in pixels."""

    content: bytes
    width: int
    height: int


def thumbnail_of(
    image: Image.Image | Pixels, px: int, size: tuple[int, int] | None = None, stored_as: int = UPRIGHT
) -> Thumbnail:
    """Return the thumbnail of an RGB image, or of pixels of shape (height, width, 3), with a longer side of `px`.

    An image that is smaller keeps its size. `size` is the image's own width and height, where it was decoded at a part
    of it; `stored_as` is EXIF's orientation. A thumbnail of 320 pixels takes about five milliseconds.
    """
    pil_image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    width, height = size or pil_image.size
    rows, columns = _target(height, width, px)
    if (columns, rows) != pil_image.size:
        pil_image = pil_image.resize((columns, rows), Image.Resampling.BICUBIC, reducing_gap=_REDUCING_GAP)
    if stored_as != UPRIGHT:
        upright = turned(np.asarray(pil_image).transpose(2, 0, 1), stored_as).transpose(1, 2, 0)
        pil_image = Image.fromarray(np.ascontiguousarray(upright))
    if is_sideways(stored_as):
        rows, columns = columns, rows
    return Thumbnail(_encoded(pil_image, px), columns, rows)


def thumbnail_of_jpeg(
    content: bytes,
    size: tuple[int, int],
    stored_as: int,
    px: int,
    field: str,
    *,
    inks: bool,
    complete: bool | None = None,
) -> Thumbnail:
    """Decode a JPEG at the size that its thumbnail is made from, and return the thumbnail of the upright image.

    The parameters are those of `decode_jpeg`; `stored_as` is EXIF's orientation. Raises what `decode_jpeg` raises.
    """
    width, height = size
    pixels, _ = decode_jpeg(content, size, _target(height, width, px), field, inks=inks, complete=complete)
    return thumbnail_of(pixels, px, size, stored_as)


def jpeg_part(height: int, width: int, px: int) -> int:
    """Return n where an n-th of a JPEG of this size is enough for its thumbnail."""
    return part_of(height, width, _target(height, width, px))


def _target(height: int, width: int, px: int) -> tuple[int, int]:
    """Return the height and width of the thumbnail of an image of this height and width."""
    scale = min(1.0, px / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _encoded(image: Image.Image, px: int) -> bytes:
    content = b""
    for quality in _QUALITIES:
        file = io.BytesIO()
        image.save(file, "WEBP", quality=quality, method=_METHOD)
        content = file.getvalue()
        if len(content) <= most_bytes(px):
            break
    return content
