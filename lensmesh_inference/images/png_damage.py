"""A check for PNG files whose compressed data ends early but cleanly. Pillow leaves the missing rows black."""

from __future__ import annotations

import struct
import zlib
from typing import Final

import numpy as np
from PIL import Image

from lensmesh_inference.images.chunks import png_chunks

# Samples of a pixel by the colour type.
_SAMPLES: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Of a PNG that is not interlaced, the last row is decoded last; of one that is, one of the last two.
_ROWS: Final = 2
# Of each pass of an interlaced PNG: its first column and row, and the steps to the next ones.
_ADAM7: Final = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_PIECE: Final = 1 << 20


def ends_early(image: Image.Image, content: bytes) -> bool:
    """Tell whether rows of a decoded PNG are missing. Bytes are counted only where the last rows are all zero."""
    if image.format != "PNG":
        return False
    width, height = image.size
    last = np.asarray(image.crop((0, max(0, height - _ROWS), width, height)))
    if len(content) < 29 or last.reshape(len(last), -1).any(axis=1).all():
        return False
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", content, 16)
    bits = depth * _SAMPLES.get(colour, 0)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    least = 0
    for left, top, across, down in passes:
        columns, rows = -((left - width) // across), -((top - height) // down)
        least += max(0, rows) * (1 + (columns * bits + 7) // 8) if columns > 0 else 0
    return _inflated(content, least) < least


def _inflated(content: bytes, least: int) -> int:
    """Return how many bytes the data unpacks to. It is unpacked in pieces, and counting stops at `least`."""
    inflate, count = zlib.decompressobj(), 0
    for kind, start, stop in png_chunks(content):
        data = content[start:stop] if kind == b"IDAT" else b""
        while data and count < least and not inflate.eof:
            count += len(inflate.decompress(data, _PIECE))
            data = inflate.unconsumed_tail
    return count
