"""Images for tests: pieces of photographs, and copies of them."""

import io
from functools import cache
from typing import Any

from PIL import Image, ImageFilter

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


def cropped(image: Image.Image, share: float = 0.7) -> bytes:
    """The middle of the image, cut to this part of each side, and encoded again."""
    width, height = round(image.width * share), round(image.height * share)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return saved(image.crop((left, top, left + width, top + height)), "JPEG", quality=80)


def photographed(image: Image.Image) -> bytes:
    """The image as it hangs on a grey wall, seen from the side: turned, tilted and a little blurred."""
    width, height = image.size
    wall = Image.new("RGB", (width * 2, height * 2), (120, 124, 128))
    wall.paste(image, (width // 2, height // 2))
    # Eight numbers that lead from the photograph back to the wall.
    tilted = wall.rotate(8, Image.Resampling.BICUBIC).transform(
        wall.size,
        Image.Transform.PERSPECTIVE,
        (1.15, 0.1, -40, 0.03, 1.1, -10, 0.0002, 0.0001),
        Image.Resampling.BICUBIC,
    )
    return saved(tilted.filter(ImageFilter.GaussianBlur(0.6)), "JPEG", quality=70)
