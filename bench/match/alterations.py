"""Ways in which people's copies of an image differ from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from PIL import Image

from bench.altering import blurred, half, saved
from lensmesh_shapes.perspective import seen_aside

DEGREES: Final = 10
CORNER_SHARE: Final = 0.12
"""The most by which a corner moves inwards, of a side."""

_Alter = Callable[[Image.Image, np.random.Generator], Image.Image]


def crop(image: Image.Image, random: np.random.Generator, share: float) -> Image.Image:
    """Cut out a part at a random place, of `share` of each side."""
    width, height = round(image.width * share), round(image.height * share)
    left, top = (int(random.integers(0, free + 1)) for free in (image.width - width, image.height - height))
    return image.crop((left, top, left + width, top + height))


def turn(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Rotate to either side; white fills the corners."""
    return image.rotate(DEGREES * random.choice((-1, 1)), Image.Resampling.BICUBIC, fillcolor="white")


def photograph_again(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Look at the image from aside, on white ground, a little out of focus."""
    return blurred(seen_aside(image, random, CORNER_SHARE))


_ALTER: Final[Mapping[str, tuple[_Alter, int]]] = {
    "cropped to 70 % of its area": (lambda image, random: crop(image, random, math.sqrt(0.7)), 90),
    "cropped to 70 % of each side": (lambda image, random: crop(image, random, 0.7), 90),
    f"rotated by {DEGREES} degrees": (turn, 90),
    "perspective and blur": (photograph_again, 90),
    "JPEG, quality 30": (lambda image, _: image, 30),
    "half the size": (lambda image, _: half(image), 90),
}
NAMES: Final = tuple(_ALTER)


def alter(image: Image.Image, name: str, seed: int) -> bytes:
    """Return an altered copy as a JPEG file; equal arguments give equal bytes."""
    change, quality = _ALTER[name]
    random = np.random.default_rng((seed, NAMES.index(name)))
    return saved(change(image.convert("RGB"), random), quality=quality)
