"""A check for strips and tiles of a TIFF that are missing or damaged: libtiff fills them with grey or black.

It checks what each coding allows: places and lengths for all; the checksum for Deflate; the strict decoder's verdict
for JPEG; for PackBits that runs end with the rows; for fax codings that the last line comes from the data. In other
codings libtiff finds what can be found. What it writes to standard error is noticed where a process decodes.
"""

from __future__ import annotations

import io
import zlib
from typing import Final

from PIL import Image

from lensmesh_chassis.errors import InvalidInput
from lensmesh_inference.images import tiff_pages as tags
from lensmesh_inference.images.damage import cut, damaged
from lensmesh_inference.images.jpeg import check_jpeg
from lensmesh_inference.images.tiff_pages import Tag, TiffPage, finish
from lensmesh_inference.images.tiff_samples import SampleReader, TiffSegment

_UNCODED, _FAX4, _OLD_JPEG, _JPEG, _PACKED = 1, 4, 6, 7, 32773
_DEFLATE: Final = frozenset({8, 32946})
_FAX: Final = frozenset({2, 3, 4})
_FAX_TAGS: Final = (tags.COMPRESSION, tags.FILL_ORDER, 292, 293)
_JPEG_TABLES: Final = 347
_HEADER_BYTES: Final = 8
_PIECE: Final = 1 << 20
# Behind the last row of a strip, unpacked: some writers make the last strip as long as the others.
_MOST_PADDING: Final = 1 << 24
# No code of T.6 has so many zero bits, nor have two that follow each other.
_NO_CODE: Final = bytes(3)
# Whatever the coding, these make lines that are not white.
_MORE: Final = bytes(range(37, 251, 7)) * 4


def check_segments(content: bytes, page: TiffPage, reader: SampleReader, channels: int, field: str) -> None:
    """Raise ``InvalidInput`` (IMAGE_TRUNCATED, IMAGE_UNDECODABLE) for a page of which some pixels are missing.

    Strips or tiles that hold the first `channels` are checked. Compressed data is unpacked, a megabyte at a time.
    """
    coding = page.first(tags.COMPRESSION, _UNCODED)
    if coding == _OLD_JPEG:
        # One stream, whose parts no strip tells.
        return
    tables = _tables(page)
    for one in reader.segments(channels):
        length = one.least if coding == _UNCODED and reader.is_single else one.length
        if one.at < _HEADER_BYTES or not length:
            raise damaged(field, f"strip or tile {one.number} has no place")
        data = content[one.at : one.at + length]
        why = _why(data, coding, one, page, tables)
        if why:
            # What should be there lies behind the end of the file.
            ends = one.at + length > len(content)
            raise cut(content, field) if ends else damaged(field, f"strip or tile {one.number}: {why}")


def _why(data: bytes, coding: int, one: TiffSegment, page: TiffPage, tables: bytes) -> str:
    """Say why a strip or tile does not hold its pixels. Return "" where nothing wrong can be found."""
    if not data:
        return "it is empty"
    if coding == _UNCODED:
        return "it is shorter than its rows" if len(data) < one.least else ""
    if coding in _DEFLATE:
        return _of_deflate(data, one.least)
    if coding == _JPEG:
        try:
            check_jpeg(data[:2] + tables + data[2:], (one.height, one.width))
        except InvalidInput as error:
            return error.message
    if coding == _PACKED and not _is_packed(data, one.least):
        return "its runs do not end with its rows"
    if coding == _FAX4 and _NO_CODE in data.rstrip(b"\0"):
        return "no code begins so"
    if coding in _FAX and _fax(data.rstrip(b"\0"), one, page) != _fax(data.rstrip(b"\0") + _MORE, one, page):
        return "it ends before its last line"
    return ""


def _tables(page: TiffPage) -> bytes:
    """Return the JPEG segments that belong before each strip's own, without their marks of beginning and end."""
    values = page[_JPEG_TABLES].values if _JPEG_TABLES in page else ()
    return bytes(values)[2:].removesuffix(b"\xff\xd9")


def _of_deflate(data: bytes, least: int) -> str:
    inflate, count = zlib.decompressobj(), 0
    try:
        while data and not inflate.eof and count <= least + _MOST_PADDING:
            count += len(inflate.decompress(data, _PIECE))
            data = inflate.unconsumed_tail
    except zlib.error as error:
        return str(error)
    if count < least:
        return "it is shorter than its rows"
    # Some writers do not end what they write; then it ends with its rows.
    return "it goes on behind its rows" if count > least and not inflate.eof else ""


def _fax(data: bytes, one: TiffSegment, page: TiffPage) -> bytes:
    """Decode the lines of a strip in one of the fax codings."""
    numbers = {tag: page[tag] for tag in _FAX_TAGS if tag in page}
    values = {tags.WIDTH: one.width, tags.HEIGHT: one.height, tags.ROWS_PER_STRIP: one.height, tags.BITS: 1}
    values |= {tags.PHOTOMETRIC: 0, tags.SAMPLES: 1, tags.STRIP_OFFSETS: 8, tags.STRIP_BYTES: len(data)}
    file = finish(bytearray(8) + data, numbers | {tag: Tag(4, (value,)) for tag, value in values.items()})
    with Image.open(io.BytesIO(file), formats=["TIFF"]) as image:
        return image.tobytes()


def _is_packed(data: bytes, least: int) -> bool:
    """Tell whether PackBits data unpacks to exactly so many bytes, with nothing but padding left."""
    at = count = 0
    while at < len(data) and count < least:
        code = data[at]
        if code < 128:
            count += min(code + 1, len(data) - at - 1)
            at += code + 2
        elif code > 128:
            count += 257 - code if at + 1 < len(data) else 0
            at += 2
        else:
            # It stands for nothing.
            at += 1
    return count == least and not data[at:].strip(b"\0\x80")
