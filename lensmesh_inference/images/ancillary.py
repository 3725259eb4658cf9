"""Images without their metadata: a broken profile, text or comment never decides about an image.

Decoders differ in which broken metadata they forgive; browsers forgive all of it. What is left is an image of the same
format with the same pixels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Final

from lensmesh_inference.images.chunks import png_chunks, webp_chunks
from lensmesh_inference.images.jpeg_damage import essential

_TIFF_MARKS: Final = (b"II*\0", b"MM\0*")
# Bytes of tRNS by the colour type of IHDR: one value, or one for each entry of a palette.
_TRANSPARENCY_BYTES: Final = {0: range(2, 3), 2: range(6, 7), 3: range(1, 257)}
# Of a GIF's extensions the one that Pillow reads to its end whatever it holds.
_COMMENT: Final = 0xFE
_WEBP_PIXELS: Final = (b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L")
_WEBP_EXIF_FLAG, _WEBP_METADATA_FLAGS = 0x08, 0x2C


def without_ancillary(content: bytes) -> bytes | None:
    """Return the same image without metadata, except for sound EXIF.

    Return None for a format where nothing can be left out.
    """
    for mark, strip in _STRIPPERS:
        if content.startswith(mark):
            return strip(content)
    return None


def _png(content: bytes) -> bytes:
    colour = content[25] if len(content) > 25 else -1
    kept = [content[:8]]
    for kind, start, stop in png_chunks(content):
        body = content[start:stop]
        if kind not in (b"IHDR", b"PLTE", b"IDAT", b"IEND") and not (
            (kind == b"tRNS" and len(body) in _TRANSPARENCY_BYTES.get(colour, ()))
            or (kind == b"eXIf" and body.startswith(_TIFF_MARKS))
        ):
            continue
        # Of what may be left out, a wrong checksum is reason enough.
        if kind in (b"tRNS", b"eXIf") and content[stop : stop + 4] != struct.pack(">I", zlib.crc32(kind + body)):
            continue
        kept.append(content[start - 8 : stop + 4])
    return b"".join(kept)


def _webp(content: bytes) -> bytes:
    kept, flags_at, exif = [b"WEBP"], -1, False
    for kind, start, stop in webp_chunks(content):
        body = content[start:stop]
        if kind == b"EXIF" and body.removeprefix(b"Exif\0\0").startswith(_TIFF_MARKS):
            exif = True
        elif kind not in _WEBP_PIXELS:
            continue
        if kind == b"VP8X":
            flags_at = len(kept)
        # The announced length stays, so that a cut file is still seen to be cut.
        kept.append(content[start - 8 : stop] + b"\0" * ((stop - start) & 1))
    if flags_at > 0 and len(kept[flags_at]) > 8:
        header = bytearray(kept[flags_at])
        header[8] = header[8] & ~_WEBP_METADATA_FLAGS | (_WEBP_EXIF_FLAG if exif else 0)
        kept[flags_at] = bytes(header)
    whole = b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(whole)) + whole


def _gif(content: bytes) -> bytes:
    """Return a GIF that holds the first frame alone."""
    if len(content) < 13:
        return content
    kept = [b"GIF89a", content[6 : _table_end(content, 10, 13)]]
    at = _table_end(content, 10, 13)
    while at < len(content):
        kind, end = content[at], at + 1
        if kind == 0x21:
            end = _blocks_end(content, at + 2)
            # A graphic control tells of transparency; comments and applications tell of nothing that is seen.
            if content[at + 1 : at + 3] == b"\xf9\x04":
                kept.append(content[at:end])
        elif kind == 0x2C:
            # Behind the descriptor and its table one byte tells the first code's bits.
            end = _blocks_end(content, _table_end(content, at + 9, at + 10) + 1)
            return b"".join([*kept, content[at:end], b";"])
        elif kind == 0x3B:
            break
        at = end
    return content


def misread_by_pillow(content: bytes) -> bool:
    """Tell whether an extension without data stands before a GIF's first frame.

    Pillow takes what follows for its data.
    """
    at = _table_end(content, 10, 13) if content.startswith(b"GIF8") else len(content)
    while at + 2 < len(content) and content[at] == 0x21:
        if content[at + 1] != _COMMENT and not content[at + 2]:
            return True
        at = _blocks_end(content, at + 2)
    return False


def _table_end(content: bytes, flags_at: int, start: int) -> int:
    """Return the end of a colour table at `start`, or `start` where the flags say that there is no table."""
    flags = content[flags_at] if flags_at < len(content) else 0
    return start + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)


def _blocks_end(content: bytes, at: int) -> int:
    """Return the position behind the empty block that ends a row of blocks."""
    while at < len(content) and content[at]:
        at += 1 + content[at]
    return at + 1


_STRIPPERS: Final[tuple[tuple[bytes, Callable[[bytes], bytes]], ...]] = (
    (b"\xff\xd8", essential),
    (b"\x89PNG", _png),
    (b"RIFF", _webp),
    (b"GIF8", _gif),
)
