"""Images of every kind that callers send, good and bad."""

import io
import struct
import zlib
from typing import Any

from PIL import Image


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(colour: str = "red", size: tuple[int, int] = (64, 48), kind: str = "PNG") -> bytes:
    """An image of one colour."""
    return encoded(Image.new("RGB", size, colour), kind)


def announcing(width: int, height: int) -> bytes:
    """A PNG of some fifty bytes whose header announces `width` times `height` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def animated_gif() -> bytes:
    """Two frames, red then blue."""
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def rotated_jpeg() -> bytes:
    """A JPEG that says it is to be turned by a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.new("RGB", (40, 20), "green"), "JPEG", exif=exif.tobytes())


def sixteen_bit() -> bytes:
    """A grey PNG of 16 bits a pixel."""
    return encoded(Image.new("I;16", (20, 20), 40_000), "PNG")


def palette_with_alpha() -> bytes:
    """A palette PNG with a transparent colour."""
    image = Image.new("P", (20, 20), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    return encoded(image, "PNG", transparency=0)


def cmyk() -> bytes:
    """A JPEG for printers."""
    return encoded(Image.new("CMYK", (20, 20), (0, 255, 255, 0)), "JPEG")
