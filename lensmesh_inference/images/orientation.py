"""The eight orientations of EXIF, and how an image in each of them is turned upright."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

UPRIGHT: Final = 1
_ORIENTATION_TAG: Final = 0x0112
_EXIF_MARK: Final = b"Exif\0\0"
# struct's letters of the kinds of whole numbers that TIFF has.
_WHOLE_NUMBERS: Final[Mapping[int, str]] = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
_INLINE_BYTES: Final = 4
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
    """Return EXIF's number for how an image is stored, 1 to 8. As in browsers, EXIF alone decides.

    It is the EXIF of a JPEG, WebP or PNG (eXIf), or TIFF's own tag. Call it after `load()` unless the image is a JPEG:
    Pillow turns TIFF images itself and removes the tag.
    """
    exif = pil_image.info.get("exif")
    return orientation_in(exif) if isinstance(exif, bytes) else UPRIGHT


def orientation_in(exif: bytes) -> int:
    """Return EXIF's number for how an image is stored.

    Only this tag is read. A megabyte of EXIF can hold 65,000 others, or half a million numbers, and Pillow takes some
    microseconds for each of them, holding Python's lock.
    """
    exif = exif.removeprefix(_EXIF_MARK)
    order = {b"II": "<", b"MM": ">"}.get(exif[:2], "")
    if not order or exif[2:4] not in (b"*\0", b"\0*"):
        return UPRIGHT
    try:
        (at,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, at)
        for entry in range(at + 2, min(at + 2 + 12 * count, len(exif)), 12):
            tag, kind, values = struct.unpack_from(order + "HHI", exif, entry)
            if tag == _ORIENTATION_TAG and kind in _WHOLE_NUMBERS and values:
                one, place = order + _WHOLE_NUMBERS[kind], entry + 8
                if struct.calcsize(one) * values > _INLINE_BYTES:
                    (place,) = struct.unpack_from(order + "I", exif, place)
                (number,) = struct.unpack_from(one, exif, place)
                return number if number in TURNS else UPRIGHT
    except struct.error:
        # It ends too early, and an image is no worse for lacking it.
        return UPRIGHT
    return UPRIGHT


def is_sideways(number: int) -> bool:
    """Tell whether a stored row is a column of the upright image."""
    return number in _SIDEWAYS


def turned(pixels: npt.NDArray[np.uint8], number: int) -> npt.NDArray[np.uint8]:
    """Return an upright view of pixels of shape (channels, height, width) that are stored in this orientation."""
    if number in _SIDEWAYS:
        pixels = pixels.swapaxes(1, 2)
    if number in _TOP_DOWN:
        pixels = pixels[:, ::-1]
    return pixels[:, :, ::-1] if number in _LEFT_RIGHT else pixels
