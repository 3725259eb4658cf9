"""Which way up an image is: EXIF's eight orientations, and the way back from each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

UPRIGHT: Final = 1
_ORIENTATION_TAG: Final = 0x0112
# XMP, and EXIF as ImageMagick once wrote it into a text of a PNG.
_NOT_EXIF: Final = ("xmp", "XML:com.adobe.xmp", "Raw profile type exif", "Raw profile type APP1")
TURNS: Final[Mapping[int, Image.Transpose]] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The same as steps: rows become columns first, then what is flipped.
_SIDEWAYS: Final = frozenset({5, 6, 7, 8})
_TOP_DOWN: Final = frozenset({3, 4, 7, 8})
_LEFT_RIGHT: Final = frozenset({2, 3, 6, 7})


def orientation(pil_image: Image.Image) -> int:
    """EXIF's number for how an image is stored, 1 to 8; EXIF alone tells it, as in browsers.

    That is EXIF of a JPEG, WebP or PNG (eXIf) and TIFF's own tag. To be read after `load()` unless it is a JPEG: Pillow
    turns TIFF images itself and takes the tag away.
    """
    for key in _NOT_EXIF:
        # Pillow looks there where EXIF tells nothing.
        pil_image.info.pop(key, None)
    try:
        number = int(pil_image.getexif().get(_ORIENTATION_TAG, UPRIGHT))
    except Exception:  # noqa: BLE001 - broken EXIF raises anything, and an image is no worse for lacking it
        return UPRIGHT
    return number if number in TURNS else UPRIGHT


def is_sideways(number: int) -> bool:
    """Whether what is stored as a row stands upright."""
    return number in _SIDEWAYS


def turned(pixels: npt.NDArray[np.uint8], number: int) -> npt.NDArray[np.uint8]:
    """A view, upright, of pixels of shape (channels, height, width) that are stored in this orientation."""
    if number in _SIDEWAYS:
        pixels = pixels.swapaxes(1, 2)
    if number in _TOP_DOWN:
        pixels = pixels[:, ::-1]
    return pixels[:, :, ::-1] if number in _LEFT_RIGHT else pixels
