"""Ordinary JPEG pictures by libjpeg-turbo, straight from the message's bytes, the large ones at a part of their size.

What is out of the ordinary is left to Pillow: `decode_jpeg` answers None. Whether a file is bad is Pillow's to say.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

# A scaled inverse cosine transform is a good low-pass filter as long as enough is left for the filter after it.
_LEAST_OVERSIZE: Final = 2
# libjpeg-turbo has vector code for these parts alone: three eighths cost more than a half.
_PARTS: Final = (8, 4, 2)


def decode_jpeg(
    content: bytes, picture: Image.Image, target: tuple[int, int], *, scaled: bool = True
) -> tuple[npt.NDArray[np.uint8], int] | None:
    """Pixels of shape (height, width, 3) as they are stored and n where each stands for n by n; None: Pillow has to.

    `target` is the height and width to which the picture will be scaled, as it is stored. With `scaled` it is decoded
    at a half, a quarter or an eighth (rounded up) where at least twice the target is left; else at its full size.
    """
    # MPO: a JPEG with more pictures behind the first. Four channels are for printing, and Pillow knows their inks.
    if picture.format not in ("JPEG", "MPO") or picture.mode not in ("L", "RGB"):
        return None
    width, height = picture.size
    part = _part(height, width, target) if scaled else 1
    try:
        # Strict: what libjpeg would only warn about, and fill with grey, is no ordinary picture.
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
            content, "RGB", min_height=-(-height // part), min_width=-(-width // part), strict=True
        )
    except ValueError:
        return None
    return pixels, part


def _part(height: int, width: int, target: tuple[int, int]) -> int:
    for part in _PARTS:
        if height >= _LEAST_OVERSIZE * part * target[0] and width >= _LEAST_OVERSIZE * part * target[1]:
            return part
    return 1
