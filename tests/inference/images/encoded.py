"""Images as files, for tests."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from bench.files import load_photographs

# How an upright image is stored in each of EXIF's orientations.
STORED: Mapping[int, Callable[[Image.Image], Image.Image]] = {
    1: lambda image: image,
    2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
    4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
}


def encoded(image: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    """An image as a file."""
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def oriented(number: int) -> Image.Exif:
    """EXIF that says how an image is stored."""
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def noise(mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Nothing compresses away, so that half a file is half an image."""
    pixels = np.random.default_rng(7).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def photograph(number: int, size: tuple[int, int]) -> Image.Image:
    """A real one, stretched to this width and height."""
    photographs = load_photographs()
    return photographs[number % len(photographs)].resize(size, Image.Resampling.BICUBIC)
