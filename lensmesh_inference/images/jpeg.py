"""JPEG decoding by libjpeg-turbo, straight from the message's bytes; large images at a part of their size.

Decoding is strict: an image that libjpeg would only warn about, and fill with grey, is not accepted as it is. What the
strict decoder refuses is decoded again without its metadata, and refused unless all its pixels are there.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from lensmesh_inference.images.damage import cut, damaged, unsupported
from lensmesh_inference.images.jpeg_damage import essential, judge, layout, missing_scans

# A scaled inverse cosine transform is a good low-pass filter as long as enough is left for the filter after it.
_LEAST_OVERSIZE: Final = 2
# libjpeg-turbo has vector code for these parts alone: three eighths cost more than a half.
_PARTS: Final = (8, 4, 2)
JPEG_FORMATS: Final = frozenset({"JPEG", "MPO"})
"""Pillow's names for JPEG files. MPO is a JPEG with more images behind the first."""


def decode_jpeg(
    content: bytes,
    size: tuple[int, int],
    target: tuple[int, int],
    field: str = "image",
    *,
    inks: bool = False,
    scaled: bool = True,
    complete: bool | None = None,
) -> tuple[npt.NDArray[np.uint8], int]:
    """Return the stored pixels, of shape (height, width, 3), and n: each pixel stands for n by n of the image.

    `size` is width and height. `target` is the height and width to which the image will be scaled, as it is stored.
    With `scaled` the image is decoded at a half, a quarter or an eighth (rounded up) where at least twice the target is
    left; else at its full size. `inks`: the image has four channels, for printing. `complete`: a look at the structure
    has found all scans; None: nobody has looked. Raises ``InvalidInput``, naming `field`, for a cut or damaged image.
    """
    width, height = size
    part = part_of(height, width, target) if scaled else 1
    colours = "CMYK" if inks else "RGB"
    pixels = _decode(content, colours, -(-height // part), -(-width // part), field, complete=complete)
    return _without_inks(pixels) if inks else pixels, part


def check_jpeg(content: bytes, least: tuple[int, int], field: str = "image") -> None:
    """Raise ``InvalidInput`` for an unsupported, cut or damaged JPEG, or one smaller than this height and width."""
    if (rare := layout(content)) is not None:
        raise unsupported(f"a JPEG with {rare}", field)
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError as error:
        raise damaged(field, str(error)) from error
    if height < least[0] or width < least[1]:
        raise damaged(field, f"it is {width} x {height}")
    inks = colours in ("CMYK", "YCCK")
    part = _PARTS[0]
    _decode(content, "CMYK" if inks else "RGB", -(-height // part), -(-width // part), field, complete=None)


def _without_inks(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Convert inks to RGB as Pillow does. It takes every file for one of Adobe's, whose values are inverted."""
    np.invert(pixels, out=pixels)
    height, width, _ = pixels.shape
    return np.array(Image.frombuffer("CMYK", (width, height), pixels, "raw", "CMYK", 0, 1).convert("RGB"))


def _decode(
    content: bytes, colours: str, height: int, width: int, field: str, *, complete: bool | None
) -> npt.NDArray[np.uint8]:
    """Decode at the smallest size of at least this height and width."""
    try:
        pixels = _strictly(content, colours, height, width)
    except ValueError:
        whole = essential(content)
        try:
            pixels = _strictly(whole, colours, height, width)
        except ValueError as error:
            refusal = judge(content, whole, str(error), field)
            if refusal is not None:
                raise refusal from error
            pixels = _strictly(whole, colours, height, width, strict=False)
    if not complete and missing_scans(content):
        raise cut(content, field)
    return pixels


def _strictly(content: bytes, colours: str, height: int, width: int, *, strict: bool = True) -> npt.NDArray[np.uint8]:
    pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
        content, colours, min_height=height, min_width=width, strict=strict
    )
    return pixels


def part_of(height: int, width: int, target: tuple[int, int]) -> int:
    """Return n where an image of this height and width, to be scaled to `target`, is decoded at an n-th of its size."""
    for part in _PARTS:
        if height >= _LEAST_OVERSIZE * part * target[0] and width >= _LEAST_OVERSIZE * part * target[1]:
            return part
    return 1
