"""Images that are built to be costly for a decoder: small to send, and slow to read or large in memory."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image


def hostile() -> dict[str, bytes]:
    """Build the hostile images by name. Together they would cost a decoder without limits minutes and gigabytes."""
    return {
        "a million comments": _inserted(_jpeg(), b"\xff\xfe\x00\x02" * 1_000_000),
        "fill bytes": _inserted(_jpeg(), b"\xff" * 15_000_000),
        "scans over and over": _scans(2_000),
        "a million chunks": _png_chunks(1_000_000),
        "a white PNG of 49 megapixels": _saved(Image.new("RGB", (7000, 7000), "white"), "PNG"),
        "a PNG of 16 bits and 49 megapixels": _saved(Image.new("I;16", (7000, 7000), 4), "PNG"),
        "a TIFF of 32 bits and 49 megapixels": _saved(
            Image.new("I", (7000, 7000), 4), "TIFF", compression="tiff_adobe_deflate"
        ),
        "a GIF of 49 megapixels": _saved(Image.new("P", (7000, 7000), 4), "GIF"),
        "a profile that unpacks to 300 MB": _png_profile(300_000_000),
        "a damaged TIFF of many strips": _damaged_tiff(),
    }


def _jpeg() -> bytes:
    return _saved(Image.radial_gradient("L").convert("RGB"), "JPEG", quality=80)


def _saved(image: Image.Image, format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def _inserted(jpeg: bytes, more: bytes) -> bytes:
    """Insert bytes behind the marker that begins the file."""
    return jpeg[:2] + more + jpeg[2:]


def _scans(times: int) -> bytes:
    """Build a progressive image of 49 megapixels whose last scan is repeated many times."""
    jpeg = _saved(Image.new("L", (7000, 7000), 90), "JPEG", progressive=True, quality=30)
    last = jpeg.rindex(b"\xff\xda")
    end = jpeg.rindex(b"\xff\xd9")
    return jpeg[:last] + jpeg[last:end] * max(1, min(times, 15_000_000 // (end - last))) + b"\xff\xd9"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_chunks(count: int) -> bytes:
    png = _saved(Image.radial_gradient("L"), "PNG")
    return png[:33] + _chunk(b"tEXt", b"a\0b") * count + png[33:]


def _png_profile(size: int) -> bytes:
    png = _saved(Image.radial_gradient("L"), "PNG")
    return png[:33] + _chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(size), 9)) + png[33:]


def _damaged_tiff() -> bytes:
    """Build a TIFF of which each strip makes libtiff write a message."""
    tiff = bytearray(_saved(Image.radial_gradient("L").resize((64, 4096)), "TIFF", compression="tiff_lzw"))
    for at in range(200, len(tiff) - 200, 37):
        tiff[at] ^= 0xFF
    return bytes(tiff)
