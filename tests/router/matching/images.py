"""Images for tests: pieces of photographs, and copies of them."""

import io
from functools import cache
from typing import Any

from PIL import Image

from bench.files import load_photographs


@cache
def photographs() -> list[Image.Image]:
    """Some photographs, 320 pixels wide."""
    return [each.convert("RGB").resize((320, 240)) for each in load_photographs()[:5]]


def saved(image: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image's file."""
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def copy(image: Image.Image) -> bytes:
    """The image, encoded again at half the size."""
    return saved(image.reduce(2), "JPEG", quality=60)
