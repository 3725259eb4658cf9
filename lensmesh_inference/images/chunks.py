"""The pieces of PNG, WebP, GIF and BMP files, counted."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from lensmesh_inference.images.pieces import Count, Structure

# An image of the largest size that is accepted in chunks of 1 KiB; writers make them of 8 KiB and more.
MOST_PNG_CHUNKS: Final = 20_000
# Each frame of an animation is one.
MOST_WEBP_CHUNKS: Final = 20_000
# Before the first frame, the only one that is decoded: comments and metadata in blocks of up to 255 bytes.
MOST_GIF_BLOCKS: Final = 20_000

_USUAL_CHUNKS: Final = 8_000
_USUAL_BLOCKS: Final = 2_000
# Compressed text and profiles: each may unpack to megabytes.
_USUAL_TEXTS: Final = 64
_TEXTS: Final = frozenset({b"iCCP", b"zTXt", b"iTXt"})
_USUAL_METADATA_BYTES: Final = 4 * 1024 * 1024
_PIXEL_CHUNKS: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"fdAT", b"IEND"})
# What Pillow makes of each of PNG's colour types in at most 8 bits.
_PNG_BYTES: Final = {0: 1, 2: 4, 3: 1, 4: 4, 6: 4}


def png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the chunks of a PNG up to its end: the type, and where the data starts and stops.

    A cut file ends the list early.
    """
    at = 8
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        yield kind, at + 8, min(at + 8 + length, len(content))
        if kind == b"IEND":
            return
        at += 12 + length


def walk_png(content: bytes) -> Structure:
    """Count the chunks of a PNG. Raises ``TooComplexError``."""
    count, metadata, texts = Count("chunks", MOST_PNG_CHUNKS), 0, 0
    width, height, depth, colour = 0, 0, 8, 6
    for kind, start, stop in png_chunks(content):
        count.add()
        if kind not in _PIXEL_CHUNKS:
            metadata += stop - start
            texts += kind in _TEXTS
        elif kind == b"IHDR" and stop - start >= 10 and not width:
            width, height, depth, colour = struct.unpack_from(">IIBB", content, start)
    wide = 2 if depth == 16 else 1
    return Structure(
        "PNG",
        width,
        height,
        bytes_per_pixel=_PNG_BYTES.get(colour, 4) * wide,
        usual=count.number <= _USUAL_CHUNKS and metadata <= _USUAL_METADATA_BYTES and texts <= _USUAL_TEXTS,
        pieces={"chunks": count.number},
    )


def webp_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the chunks of a WebP file: the type, and where the data starts and stops.

    Chunks inside of frames are left out.
    """
    at = 12
    while at + 8 <= len(content):
        kind, length = struct.unpack_from("<4sI", content, at)
        yield kind, at + 8, min(at + 8 + length, len(content))
        at += 8 + length + (length & 1)


def walk_webp(content: bytes) -> Structure:
    """Count the chunks of a WebP file. Raises ``TooComplexError``."""
    count, metadata = Count("chunks", MOST_WEBP_CHUNKS), 0
    width = height = 0
    for kind, start, stop in webp_chunks(content):
        count.add()
        body = content[start : min(stop, start + 10)]
        if kind == b"VP8X" and len(body) == 10:
            width, height = 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
        elif kind == b"VP8 " and len(body) == 10 and not width:
            width, height = (int.from_bytes(body[at : at + 2], "little") & 0x3FFF for at in (6, 8))
        elif kind == b"VP8L" and len(body) >= 5 and not width:
            bits = int.from_bytes(body[1:5], "little")
            width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        elif kind not in (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANMF"):
            metadata += stop - start
    return Structure(
        "WEBP",
        width,
        height,
        # libwebp's decoder of animations, which Pillow uses for all, has two canvases beside the one that it hands out.
        # Measured for 49 megapixels: the decoder holds 16 bytes a pixel, what it gives among them.
        working_bytes_per_pixel=8,
        usual=count.number <= _USUAL_CHUNKS and metadata <= _USUAL_METADATA_BYTES,
        pieces={"chunks": count.number},
    )


def walk_gif(content: bytes) -> Structure:
    """Count the blocks before a GIF's first frame. Raises ``TooComplexError``."""
    count = Count("blocks before its first frame", MOST_GIF_BLOCKS)
    if len(content) < 13:
        return Structure("GIF")
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    while at < len(content):
        count.add()
        kind = content[at]
        if kind == 0x2C and at + 10 <= len(content):
            left, top, across, down = struct.unpack_from("<HHHH", content, at + 1)
            # A frame that is larger than the canvas makes the canvas larger.
            width, height = max(width, left + across), max(height, top + down)
            break
        if kind == 0x3B:
            break
        at += 1
        if kind != 0x21:
            # Pillow passes over what is no block byte by byte.
            continue
        at += 1
        while at < len(content) and content[at]:
            count.add()
            at += 1 + content[at]
        at += 1
    return Structure(
        "GIF",
        width,
        height,
        bytes_per_pixel=4,
        usual=count.number <= _USUAL_BLOCKS,
        pieces={"blocks": count.number},
    )


def walk_bmp(content: bytes) -> Structure:
    """Read the size of a BMP. A BMP is never `usual`, because Pillow decodes some kinds pixel by pixel in Python."""
    header = int.from_bytes(content[14:18], "little")
    if header == 12:
        width, height = (int.from_bytes(content[at : at + 2], "little") for at in (18, 20))
    else:
        width, height = (abs(int.from_bytes(content[at : at + 4], "little", signed=True)) for at in (18, 22))
    return Structure("BMP", width, height)
