"""Judgement of a JPEG that the strict decoder refused: whether all its pixels are there, or what is wrong with it.

libjpeg fills what is missing with grey and only warns; the strict decoder stops at the first warning. Some warnings say
nothing about pixels: odd metadata, a missing end mark, padding before it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Final

from lensmesh_chassis.errors import InvalidInput
from lensmesh_inference.images.damage import cut, damaged, unsupported
from lensmesh_inference.images.jpeg_scans import FRAMES, Coefficients
from lensmesh_inference.images.jpeg_segments import segments

END: Final = b"\xff\xd9"
_SCAN: Final = 0xDA
_TABLES_AND_FRAMES: Final = range(0xC0, 0xE0)
_JFIF, _EXIF, _ADOBE = 0xE0, 0xE1, 0xEE
# Shorter ones say nothing, and make decoders fail.
_LEAST_BYTES: Final = {_JFIF: 14, _EXIF: 14, _ADOBE: 12}
_STARTS: Final = {_JFIF: b"JFIF\0", _EXIF: b"Exif\0\0", _ADOBE: b"Adobe"}
_CODINGS: Final[Mapping[int, str]] = {
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "lossless"),
    **dict.fromkeys((0xC5, 0xC6, 0xCD, 0xCE), "hierarchical"),
    **dict.fromkeys((0xC9, 0xCA), "arithmetic coding"),
}
# Its start of frame.
_JPEG_LS: Final = 0xF7
# Markers that no length follows.
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xDA)})
_SEQUENTIAL: Final = frozenset({0xC0, 0xC1})
_EXTRA_BYTES: Final = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
# Some cameras leave this many bytes behind the last pixel.
_MOST_EXTRA_BYTES: Final = 16


def essential(content: bytes) -> bytes:
    """Return the same JPEG without metadata, and without anything behind its end.

    What stays are tables, frames and scans, EXIF for its orientation, and the two segments that tell of colours (JFIF
    and Adobe) where they are whole. Scan headers of a sequential JPEG are rewritten as the standard wants them. An end
    mark is added where the file ends without one.
    """
    out, at, sequential, kept = [content[:2]], None, False, set[int]()
    for segment in segments(content):
        if at is not None:
            # What is before the marker that ends a scan is the scan's data; RST markers are part of it.
            out.append(content[at : segment.start - (2 if segment.marker in _ALONE else 4)])
            at = None
        marker, body = segment.marker, content[segment.start : segment.stop]
        if marker == 0xD9:
            break
        if marker in _LEAST_BYTES:
            if len(body) < _LEAST_BYTES[marker] or not body.startswith(_STARTS[marker]) or marker in kept:
                continue
            kept.add(marker)
            if marker == _JFIF:
                # Of other versions libjpeg warns, and reads them the same.
                body = body[:5] + b"\1\1" + body[7:]
        elif marker not in _TABLES_AND_FRAMES:
            continue
        if marker in FRAMES:
            sequential = marker in _SEQUENTIAL
        if marker == _SCAN and sequential and len(body) >= 4:
            body = body[:-3] + b"\0\x3f\0"
        out.append(b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body)
        if marker == _SCAN:
            at = segment.stop
    if at is not None:
        out.append(content[at:])
    return b"".join(out).removesuffix(b"\xff") + END


def missing_scans(content: bytes) -> bool:
    """Tell whether scans are missing: some component's coefficients never come, or not to their last bit.

    Of a sequential JPEG with one scan only the header is looked at.
    """
    coefficients = Coefficients()
    for segment in segments(content):
        if segment.marker in FRAMES:
            coefficients.frame(segment.marker, content[segment.start : segment.stop])
        elif segment.marker == _SCAN:
            coefficients.scan(content[segment.start : segment.stop])
            if coefficients.settled:
                return False
    return coefficients.missing


def layout(content: bytes) -> str | None:
    """Name what is rare about a JPEG, such as "12 bits" or "arithmetic coding". Return None where nothing is."""
    for segment in segments(content):
        if segment.marker == _JPEG_LS:
            return "the coding of JPEG-LS"
        if segment.marker in FRAMES:
            bits = content[segment.start] if segment.stop > segment.start else 8
            coding = _CODINGS.get(segment.marker)
            return f"{bits} bits" if bits != 8 and coding is None else coding
        if segment.marker == _SCAN:
            break
    return None


def judge(content: bytes, whole: bytes, said: str, field: str) -> InvalidInput | None:
    """Return the error for a JPEG that the strict decoder refused with the message `said`.

    None: all its pixels are there.

    `whole` is what `essential` made of `content`, and what the decoder saw.
    """
    rare = layout(content)
    if rare is not None:
        return unsupported(f"a JPEG with {rare}", field)
    extra = _EXTRA_BYTES.search(said)
    if extra and _is_padding(whole[: -len(END)][-int(extra[1]) :]):
        return None
    if not has_end(content):
        return cut(content, field)
    return damaged(field, "its compressed data ends before its pixels do" if "premature end" in said else said)


def has_end(content: bytes) -> bool:
    """Tell whether a JPEG has the mark that ends its image. More bytes may follow it."""
    return any(segment.marker == END[1] for segment in segments(content))


def _is_padding(extra: bytes) -> bool:
    return len(extra) <= _MOST_EXTRA_BYTES or not extra.strip(b"\0") or not extra.strip(b"\xff")
