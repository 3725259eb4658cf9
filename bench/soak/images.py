"""Endless images, no two alike: scenes of several sizes and formats, and files that are no images."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator

from lensmesh_shapes import draw, held_out_scenes

SIDES_PX = (96, 224, 640, 1280)
SCENES = 24


class Images:
    """Encoded scenes. They differ by bytes after their end, which decoders do not read."""

    def __init__(self) -> None:
        kinds = ("JPEG", "PNG", "WEBP")
        self._files = [
            _encoded(number, SIDES_PX[number % len(SIDES_PX)], kinds[number % len(kinds)]) for number in range(SCENES)
        ]
        self._numbers: Iterator[int] = itertools.count()

    def good(self) -> bytes:
        """Return an image that nobody has seen before."""
        number = next(self._numbers)
        return self._files[number % SCENES] + b"soak %d" % number

    def same(self) -> bytes:
        """Return an image that everybody has seen."""
        return self._files[0]

    def bad(self) -> bytes:
        """Return an image that is cut short, is no image, or is empty."""
        number = next(self._numbers)
        whole = self._files[number % SCENES]
        return (whole[: len(whole) // 2], b"no image %d" % number, b"")[number % 3]


def small_images(count: int) -> list[bytes]:
    """Make JPEG files that are cheap to decode, so that the device is what limits."""
    return [_encoded(number, 96, "JPEG") for number in range(count)]


def _encoded(number: int, side_px: int, kind: str) -> bytes:
    scene = held_out_scenes(SCENES)[number]
    file = io.BytesIO()
    draw(scene, side_px).save(file, kind)
    return file.getvalue()
