"""JPEG images by libjpeg-turbo, straight from the message's bytes, the large ones at a part of their size.

Decoded strictly: what libjpeg would only warn about, and fill with grey, is no ordinary image. What the strict decoder
refuses is looked at once more without its metadata, and refused unless all its pixels are there.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from lensmesh_inference.pictures.damage import cut
from lensmesh_inference.pictures.jpeg_damage import essential, judge, missing_scans

# A scaled inverse cosine transform is a good low-pass filter as long as enough is left for the filter after it.
_LEAST_OVERSIZE: Final = 2
# libjpeg-turbo has vector code for these parts alone: three eighths cost more than a half.
_PARTS: Final = (8, 4, 2)


def decode_jpeg(
    content: bytes, image: Image.Image, target: tuple[int, int], field: str = "image", *, scaled: bool = True
) -> tuple[npt.NDArray[np.uint8], int] | None:
    """Pixels of shape (height, width, 3) as they are stored and n where each stands for n by n; None: Pillow has to.

    `target` is the height and width to which the image will be scaled, as it is stored. With `scaled` it is decoded
    at a half, a quarter or an eighth (rounded up) where at least twice the target is left; else at its full size.
    Raises ``InvalidInput`` naming `field` for one that is cut or damaged.
    """
    # MPO: a JPEG with more images behind the first.
    if image.format not in ("JPEG", "MPO"):
        return None
    width, height = image.size
    if image.mode not in ("L", "RGB"):
        # Four channels are for printing, and Pillow knows their inks; whether they are all there is told by an eighth.
        _decode(content, "CMYK", -(-height // _PARTS[0]), -(-width // _PARTS[0]), field)
        return None
    part = part_of(height, width, target) if scaled else 1
    return _decode(content, "RGB", -(-height // part), -(-width // part), field), part


def _decode(content: bytes, colours: str, height: int, width: int, field: str) -> npt.NDArray[np.uint8]:
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
    if missing_scans(content):
        raise cut(content, field)
    return pixels


def _strictly(content: bytes, colours: str, height: int, width: int, *, strict: bool = True) -> npt.NDArray[np.uint8]:
    pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
        content, colours, min_height=height, min_width=width, strict=strict
    )
    return pixels


def part_of(height: int, width: int, target: tuple[int, int]) -> int:
    """Tell n where an image of this height and width is decoded at an n-th of its size, to be scaled to `target`."""
    for part in _PARTS:
        if height >= _LEAST_OVERSIZE * part * target[0] and width >= _LEAST_OVERSIZE * part * target[1]:
            return part
    return 1
