"""An image as a camera sees it that does not stand right in front of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_INWARDS = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)])


def seen_aside(image: Image.Image, random: np.random.Generator, most: float) -> Image.Image:
    """Return the image on white ground, each of its corners moved inwards.

    Args:
        image: RGB, of any size.
        random: decides how far each corner moves, from left to right and from top to bottom.
        most: farthest that a corner moves, as a share of a side, 0 to below 0.5.
    """
    width, height = image.size
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], float)
    moved = corners + _INWARDS * random.uniform(0, most, (4, 2)) * (width, height)
    return image.transform(
        image.size,
        Image.Transform.PERSPECTIVE,
        _coefficients(moved, corners),
        Image.Resampling.BICUBIC,
        fillcolor="white",
    )


def _coefficients(seen: NDArray[np.floating], of: NDArray[np.floating]) -> list[float]:
    """Return Pillow's eight numbers of the perspective that shows the corners `of` where `seen` are."""
    rows, sides = [], []
    for (x, y), (u, v) in zip(seen, of, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        sides += [u, v]
    return [float(number) for number in np.linalg.solve(np.array(rows), np.array(sides))]
