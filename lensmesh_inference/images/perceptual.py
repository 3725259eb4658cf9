"""Perceptual hashes: images that look alike have hashes that differ in few bits, however they are encoded and scaled.

The hash is PDQ (Facebook 2019, "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm"): luminance,
two passes of a box filter down to 64 x 64, the 16 x 16 lowest frequencies of their cosine transform, and for each of
these a bit that says whether it lies above the median. It depends on the image alone, and on no model.

Filter and decimation are linear, so that they are two small matrices here: one for rows, one for columns. Bits and
quality are those of the published code. Only where a side is longer than `_LONGEST_PX`, neighbouring pixels are
averaged first.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from lensmesh_inference.images.frames import inside
from lensmesh_inference.images.jpeg import decode_jpeg, part_of
from lensmesh_inference.images.orientation import turned

Pixels: TypeAlias = npt.NDArray[np.uint8]
Luma: TypeAlias = npt.NDArray[np.float32]

HASH_BYTES: Final = 32
LEAST_QUALITY: Final = 50
"""The quality below which a hash says too little to be compared."""
_SIDE: Final = 64
_FREQUENCIES: Final = 16
# Below this no hash says anything.
_LEAST_PX: Final = 5
# Beyond it, pixels are averaged until about the half is left: a matrix of any size would take any memory.
_LONGEST_PX: Final = 1792
# JPEG images are decoded at a part of their size where twice this is left, as for a model of the usual size.
_JPEG_TARGET: Final = (224, 224)
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
# Of one block of rows, and its rows. Its products are too small for OpenBLAS to share them among threads (64 * 4096
# multiplications): on a busy machine these cost a hundred times what they save.
_BLOCK_PIXELS: Final = 4_096
_BLOCK_ROWS: Final = 64
# What differs by less is of one grey level, but for rounding.
_FLAT_LEVELS: Final = 1e-2
_COSINES: Final = (
    np.sqrt(2 / _SIDE) * np.cos(np.pi / 2 / _SIDE * np.outer(np.arange(1, _FREQUENCIES + 1), 2 * np.arange(_SIDE) + 1))
).astype(np.float32)


@dataclass(frozen=True)
class PerceptualHash:
    """A PDQ hash: 32 bytes, the bit of the highest frequency first, as PDQ's hexadecimal form has it.

    `quality` is 0 to 100 and counts the image's gradients. PDQ's authors advise to compare no hash below 50.
    `unframed` is the hash of what a frame of one colour surrounds; empty where there is no frame, or too little in it.
    """

    hash: bytes
    quality: int
    unframed: bytes = b""


def hash_pixels(pixels: Pixels) -> PerceptualHash:
    """Return the hash of an upright image of shape (height, width, 3), and that of what is inside its frame.

    An image of one colour, or of less than 5 pixels on a side, has a hash of zeros and quality 0.
    """
    whole = _hash(pixels)
    inner = inside(pixels) if whole.quality else None
    if inner is None:
        return whole
    within = _hash(inner)
    return whole if within.quality < LEAST_QUALITY else replace(whole, unframed=within.hash)


def _hash(pixels: Pixels) -> PerceptualHash:
    if min(pixels.shape[:2]) < _LEAST_PX:
        return PerceptualHash(bytes(HASH_BYTES), 0)
    small = _decimated(pixels)
    if float(np.ptp(small)) < _FLAT_LEVELS:
        return PerceptualHash(bytes(HASH_BYTES), 0)
    frequencies = (_COSINES @ small @ _COSINES.T).ravel()
    # The lower of the two medians.
    median = np.partition(frequencies, frequencies.size // 2 - 1)[frequencies.size // 2 - 1]
    return PerceptualHash(np.packbits((frequencies > median)[::-1]).tobytes(), _quality(small))


def hash_jpeg(
    content: bytes, size: tuple[int, int], stored_as: int, field: str, *, inks: bool, complete: bool | None = None
) -> PerceptualHash:
    """Decode a JPEG at the size that its hash is made from, and return the hash of the upright image.

    The parameters are those of `decode_jpeg`; `stored_as` is EXIF's orientation. Raises what `decode_jpeg` raises.
    """
    pixels, _ = decode_jpeg(content, size, _JPEG_TARGET, field, inks=inks, complete=complete)
    return hash_stored(pixels, stored_as)


def hash_stored(pixels: Pixels, stored_as: int) -> PerceptualHash:
    """Return the hash of an image of shape (height, width, 3) that is stored in one of EXIF's orientations."""
    return hash_pixels(turned(pixels.transpose(2, 0, 1), stored_as).transpose(1, 2, 0))


def jpeg_part(height: int, width: int) -> int:
    """Return n where the hash of a JPEG of this size is made from an n-th of it. Settings do not change that."""
    return part_of(height, width, _JPEG_TARGET)


def _decimated(pixels: Pixels) -> Luma:
    """Return the luminance at 64 x 64 points, each the mean of what lies around it."""
    height, width, _ = pixels.shape
    rows, columns = _averaged(height), _averaged(width)
    height, width = height // rows, width // columns
    across, down = _weights(width).T, _weights(height)
    small = np.zeros((_SIDE, _SIDE), np.float32)
    step = min(_BLOCK_ROWS, max(1, _BLOCK_PIXELS // width))
    for top in range(0, height, step):
        count = min(step, height - top)
        block = pixels[top * rows : (top + count) * rows, : width * columns]
        # In pieces of a row each, which no thread of BLAS shares either.
        luma: Any = block.astype(np.float32).reshape(-1, width, 3) @ _LUMA
        if rows > 1 or columns > 1:
            luma = luma.reshape(count, rows, width, columns).mean(axis=(1, 3))
        small += down[:, top : top + count] @ (luma @ across)
    return small


def _averaged(side: int) -> int:
    """Return how many pixels of a side of this length are averaged to one."""
    return 1 if side <= _LONGEST_PX else side // (_LONGEST_PX // 2)


@functools.lru_cache(maxsize=64)
def _weights(side: int) -> Luma:
    """Return the matrix, of shape (64, side), of two passes of the box filter and of taking 64 points out of `side`."""
    places = np.arange(side)
    # Half of a 64th of the side, rounded up. At both ends it is cut.
    window = -(-side // (2 * _SIDE))
    ahead = (window + 2) // 2
    first = np.maximum(places - (window - ahead), 0)
    behind = np.minimum(places + ahead, side)
    share = 1 / (behind - first)
    # Row by row: a box of boxes, by where each begins and ends.
    edges = np.zeros((_SIDE, side + 1))
    for row, centre in enumerate(((np.arange(_SIDE) + 0.5) * side / _SIDE).astype(int)):
        inner = slice(first[centre], behind[centre])
        np.add.at(edges[row], first[inner], share[inner] * share[centre])
        np.subtract.at(edges[row], behind[inner], share[inner] * share[centre])
    weights: Luma = edges.cumsum(axis=1)[:, :side].astype(np.float32)
    return weights


def _quality(small: Luma) -> int:
    """Return how much there is to see, 0 to 100: the sum of gradients, each in whole hundredths of the grey range."""
    gradients = sum(np.abs(np.trunc(np.diff(small, axis=axis) * 100 / 255)).sum() for axis in (0, 1))
    return min(100, int(gradients) // 90)
