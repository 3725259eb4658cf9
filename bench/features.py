"""Measurement of local features: altered copies of an image that are recognised, and others that are taken for it.

    python -m bench.features [--scenes 60] [--photographs 20]

Each image is altered in each of the ways of `ALTERED`, saved as JPEG, and compared with itself and with some others:
the nearest neighbours of each descriptor by the ratio test, and a homography that moves as many points as it can. What
counts is how many it moves. As many are asked of a match as let 0.1 % of the other images pass. SIFT (Lowe 2004) with
as many bytes an image stands beside the Encoder's ORB. Pairs of scenes with the same facts, and of photographs cut out
of the same one, are left out: nobody says that these are false.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from bench.duplicates import Drawn, photographs, scenes
from lensmesh_inference.images.local_features import features_of, opencv

Pixels: TypeAlias = NDArray[np.uint8]
# The ratio of the nearest to the second nearest, and how far a point may lie from where it should, of the longer side.
_RATIO: Final = 0.8
_DISTANCE: Final = 0.012
_OTHERS: Final = 6
_FALSE_SHARE: Final = 0.001
# Of SIFT: 128 bytes and a place, some 16 kB together.
_SIFT_POINTS: Final = 122
_SIDE_PX: Final = 512
_LONGEST_PX: Final = 1024
_UNIT: Final = 1000


@dataclass(frozen=True)
class Found:
    """Points of an image, in parts of its longer side, and their descriptors."""

    points: NDArray[np.float64]
    descriptors: Any


def orb(pixels: Pixels) -> Found:
    """Make features as the Encoder does."""
    made = features_of(pixels)
    points = np.frombuffer(made.points, "<u2").reshape(-1, 2) / 65_535
    return Found(points, np.frombuffer(made.descriptors, np.uint8).reshape(-1, 32))


def sift(pixels: Pixels) -> Found:
    """Make as many bytes of RootSIFT (Arandjelovic and Zisserman 2012), in bytes as it would be kept."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    scale = min(1.0, _SIDE_PX / max(grey.shape))
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    search: Any = cv2.SIFT.create(nfeatures=_SIFT_POINTS, contrastThreshold=0.02)
    found, numbers = search.detectAndCompute(small, None)
    if numbers is None:
        return Found(np.zeros((0, 2)), np.zeros((0, 128), np.float32))
    rooted = np.sqrt(numbers / np.maximum(numbers.sum(axis=1, keepdims=True), 1e-9))
    places = np.array([one.pt for one in found]) / max(small.shape)
    return Found(places, np.clip(np.rint(rooted * 512), 0, 255).astype(np.float32))


MAKERS: Final[Mapping[str, tuple[Callable[[Pixels], Found], int]]] = {
    "ORB": (orb, cv2.NORM_HAMMING),
    "SIFT": (sift, cv2.NORM_L2),
}


def _saved(image: Image.Image, quality: int = 90) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def _cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = round(image.width * 0.7), round(image.height * 0.7)
    left, top = rng.integers(image.width - width + 1), rng.integers(image.height - height + 1)
    return _saved(image.crop((int(left), int(top), int(left) + width, int(top) + height)))


def _seen_from_aside(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Move each corner inwards by up to 12 % of the sides, and blur."""
    sides = np.array(image.size, np.float32)
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float32)
    inwards = np.where(corners == 0, 1, -1) * rng.uniform(0, 0.12, (4, 2))
    moved: Any = cv2.getPerspectiveTransform(corners * sides, ((corners + inwards) * sides).astype(np.float32))
    warped = Image.fromarray(cv2.warpPerspective(np.asarray(image), moved, image.size))
    return _saved(warped.filter(ImageFilter.GaussianBlur(min(image.size) * 0.004)))


ALTERED: Final[Mapping[str, Callable[[Image.Image, np.random.Generator], Image.Image]]] = {
    "cropped to 70 % of each side": _cropped,
    "turned by 10 degrees": lambda image, _: _saved(image.rotate(10, Image.Resampling.BICUBIC)),
    "in perspective and blurred": _seen_from_aside,
    "JPEG, quality 30": lambda image, _: _saved(image, 30),
    "half the size": lambda image, _: _saved(image.resize((image.width // 2, image.height // 2))),
}


def moved_alike(query: Found, entry: Found, norm: int) -> int:
    """Count the points of a query that one homography moves to their like in an entry."""
    if min(len(query.points), len(entry.points)) < 4:
        return 0
    nearest: dict[int, tuple[float, int]] = {}
    pairs: Any = cv2.BFMatcher(norm).knnMatch(query.descriptors, entry.descriptors, k=2)
    for first, second in pairs:
        if first.distance < _RATIO * second.distance:
            nearest[first.trainIdx] = min(nearest.get(first.trainIdx, (np.inf, 0)), (first.distance, first.queryIdx))
    if len(nearest) < 4:
        return 0
    there = entry.points[list(nearest)] * _UNIT
    here = query.points[[index for _, index in nearest.values()]] * _UNIT
    found: Any = cv2.findHomography(here, there, cv2.USAC_MAGSAC, _DISTANCE * _UNIT, maxIters=2000, confidence=0.995)
    return 0 if found[0] is None else int(found[1].sum())


def report(name: str, drawn: Drawn) -> None:
    """Print what is recognised of one kind of images."""
    images = [_saved(one) for one in drawn.images]
    for kind, (make, norm) in MAKERS.items():
        rng = np.random.default_rng(1)
        started = time.process_time()
        entries = [make(np.asarray(image)) for image in images]
        each_ms = (time.process_time() - started) / len(images) * 1000
        true: dict[str, list[int]] = {}
        false: list[int] = []
        for way, alter in ALTERED.items():
            for index, image in enumerate(images):
                query = make(np.asarray(alter(image, rng)))
                true.setdefault(way, []).append(moved_alike(query, entries[index], norm))
                others = [
                    one for one in rng.integers(len(images), size=_OTHERS) if drawn.kinds[one] != drawn.kinds[index]
                ]
                false += [moved_alike(query, entries[one], norm) for one in others]
        least = int(np.quantile(false, 1 - _FALSE_SHARE)) + 1
        say(
            f"{name}, {kind}: {len(images)} images, {each_ms:.1f} ms each, "
            f"{np.mean([len(one.points) for one in entries]):.0f} points; {len(false)} other pairs: most {max(false)}, "
            f"a match has {least} or more"
        )
        for way, counts in true.items():
            low, middle = np.quantile(counts, [0.1, 0.5])
            say(f"  {way}: {np.mean(np.array(counts) >= least):.3f} (p10 {low:.0f}, p50 {middle:.0f} points)")


def say(text: str) -> None:
    """Print a line of the report."""
    sys.stdout.write(text + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--photographs", type=int, default=20)
    arguments = parser.parse_args()
    opencv()
    drawn = photographs(arguments.photographs * 3)
    small = [index for index, one in enumerate(drawn.images) if max(one.size) <= _LONGEST_PX][: arguments.photographs]
    some = Drawn([drawn.images[index] for index in small], [drawn.kinds[index] for index in small])
    for name, each in (("drawn scenes", scenes(arguments.scenes)), ("photographs", some)):
        if each.images:
            report(name, each)


if __name__ == "__main__":
    main()
