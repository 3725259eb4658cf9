"""Ways to alter an image that several benchmarks share."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image, ImageFilter


def saved(image: Image.Image, format_: str = "JPEG", **options: Any) -> bytes:
    """Return the image as a file."""
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def half(image: Image.Image) -> Image.Image:
    """Return the image at half its width and height."""
    return image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.BICUBIC)


def blurred(image: Image.Image) -> Image.Image:
    """Return the image blurred by a Gaussian of 0.5 % of its shorter side."""
    return image.filter(ImageFilter.GaussianBlur(min(image.size) * 0.005))
