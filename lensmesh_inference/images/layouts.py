"""The names of rare layouts of supported formats, for files that cannot be decoded because of their layout."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final

from lensmesh_inference.images import jpeg_damage

_BMP_CODINGS: Final[Mapping[int, str]] = {
    1: "run-length coding of 8 bits",
    2: "run-length coding of 4 bits",
    3: "bit fields",
    4: "a JPEG inside",
    5: "a PNG inside",
    6: "bit fields with alpha",
}


def rare_layout(content: bytes) -> str | None:
    """Name the layout of a file that the decoder does not know, such as "a JPEG with 12 bits".

    Return None where none is rare.
    """
    for mark, tell in _TELLERS:
        if content.startswith(mark):
            return tell(content)
    return None


def _jpeg(content: bytes) -> str | None:
    rare = jpeg_damage.layout(content)
    return f"a JPEG with {rare}" if rare else None


def _png(content: bytes) -> str | None:
    return "a PNG made for iPhones (CgBI)" if content[12:16] == b"CgBI" else None


def _bmp(content: bytes) -> str | None:
    """Name a size, depth or coding that no decoder here knows.

    What is not part of BMP at all is damage, and not named.
    """
    if len(content) < 34:
        return None
    (header,) = struct.unpack_from("<I", content, 14)
    if header == 12:
        (depth,) = struct.unpack_from("<H", content, 24)
        return f"a BMP of OS/2 with {depth} bits" if depth in (2, 16, 32) else None
    if header == 16:
        return "a BMP of OS/2 with a short header"
    depth, coding = struct.unpack_from("<HI", content, 28)
    if coding in (3, 6) and depth in (16, 32):
        masks = struct.unpack_from("<3I", content, 54) if len(content) >= 66 else ()
        return f"a BMP with {depth} bits and the masks {', '.join(f'{mask:#x}' for mask in masks)}"
    if header == 64 and coding in (3, 4):
        return "a BMP of OS/2 with Huffman or run-length coding"
    if coding in (4, 5):
        return f"a BMP with {_BMP_CODINGS[coding]}"
    if coding <= 2 and depth in (2, 64):
        return f"a BMP with {depth} bits"
    return f"a BMP with coding {coding}" if 10 < coding < 14 else None


_TELLERS: Final[tuple[tuple[bytes, Callable[[bytes], str | None]], ...]] = (
    (b"\xff\xd8", _jpeg),
    (b"\x89PNG", _png),
    (b"BM", _bmp),
)
