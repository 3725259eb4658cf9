"""Measurement of what perceptual hashes find: altered copies of an image, and pairs of unlike ones that they mistake.

    python -m bench.duplicates [--scenes 2000] [--photographs 200]

Each image is altered in each of the ways of `ALTERED`, saved, and hashed again as the Encoder does. A copy is found
where its hash differs in at most 31 bits, or that of what its frame surrounds does. All pairs of the unaltered images
are compared as well. Pairs of scenes with the same facts, and of photographs cut out of the same one, are left out:
nobody says that these are false.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from bench.altering import blurred, half, saved
from bench.files import SIZES, draw_photograph, load_photographs, plan
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.perceptual import PerceptualHash
from lensmesh_inference.images.raster import make, resize_by_pillow
from lensmesh_inference.images.structure import look
from lensmesh_inference.images.transform import Transform
from lensmesh_shapes.data import sample_batch_facts
from lensmesh_shapes.facts import Scene
from lensmesh_shapes.scenes import draw

DISTANCE: Final = 31
LEAST_QUALITY: Final = 50
SCENE_PX: Final = 256
_TRANSFORM: Final = Transform(32, 32, "squash", "bicubic")


def _bordered(image: Image.Image, colour: str) -> Image.Image:
    """Return the image with a border of 5 % of its shorter side."""
    return ImageOps.expand(image, round(min(image.size) * 0.05), colour)


ALTERED: Final[Mapping[str, Callable[[Image.Image], bytes]]] = {
    "JPEG, quality 30": lambda image: saved(image, quality=30),
    "half the size": lambda image: saved(half(image), quality=90),
    "a quarter of the pixels, WebP": lambda image: saved(half(image), "WEBP", quality=75),
    "blurred (sigma 0.5 % of a side)": lambda image: saved(blurred(image), quality=90),
    "a white border of 5 %": lambda image: saved(_bordered(image, "white"), quality=90),
    "a black border of 5 %": lambda image: saved(_bordered(image, "black"), quality=90),
    "a brighter copy (1.2)": lambda image: saved(image.point(lambda level: min(255, level * 1.2)), quality=90),
}


@dataclass
class Drawn:
    """Images, and of each what it is alike to: pairs of one kind are not counted as false."""

    images: list[Image.Image]
    kinds: list[object]


def scenes(count: int, seed: int = 1) -> Drawn:
    """Draw scenes."""
    rng = np.random.default_rng(seed)
    facts = sample_batch_facts(rng, count, near=0.0)
    drawn = [draw(Scene(one, seed=int(rng.integers(2**31))), SCENE_PX) for one in facts]
    return Drawn(drawn, [one.canonical() for one in facts])


def photographs(count: int) -> Drawn:
    """Cut pieces out of photographs, as for the other benchmarks."""
    known = load_photographs()
    pieces = plan(count, {size: times for size, times in SIZES.items() if size[0] < 4000})
    images = [draw_photograph(known[one.number % len(known)], one) for one in pieces]
    return Drawn(images, [one.number % len(known) for one in pieces])


def hashed(content: bytes) -> PerceptualHash:
    """Hash a file as the Encoder does."""
    made = make(
        content, _TRANSFORM, ImageLimits(), "image", structure=look(content, "image"), resize=resize_by_pillow,
        hashed=True,
    )  # fmt: skip
    assert made.perceptual_hash is not None, "it was asked for"
    return made.perceptual_hash


def distances(first: Sequence[PerceptualHash], second: Sequence[PerceptualHash]) -> NDArray[np.int64]:
    """Return how far the images of each pair are from one another, in bits, of shape (len(first), len(second))."""
    whole, framed = (
        [[one.hash for one in hashes], [one.unframed or one.hash for one in hashes]] for hashes in (first, second)
    )
    each = [_bits(one, other) for one in whole for other in framed]
    nearest: NDArray[np.int64] = np.minimum.reduce(each)
    return nearest


def _bits(first: Sequence[bytes], second: Sequence[bytes]) -> NDArray[np.int64]:
    signs, others = (
        np.unpackbits(np.array([list(one) for one in hashes], np.uint8), axis=1).astype(np.float32) * 2 - 1
        for hashes in (first, second)
    )
    return np.rint((256 - signs @ others.T) / 2).astype(np.int64)


def say(text: str) -> None:
    """Print a line of the report."""
    sys.stdout.write(text + "\n")


def report(name: str, drawn: Drawn, *, only_pairs: bool = False) -> None:
    """Print what is found of one kind of images."""
    originals = [hashed(saved(image, quality=90)) for image in drawn.images]
    rich = [index for index, one in enumerate(originals) if one.quality >= LEAST_QUALITY]
    say(f"{name}: {len(originals)} images, {len(rich)} of quality {LEAST_QUALITY} or more")
    for what, alter in () if only_pairs else ALTERED.items():
        copies = [hashed(alter(image)) for image in drawn.images]
        bits = np.diagonal(distances(originals, copies))
        for of, chosen in (("all", np.arange(len(bits))), (f"quality >= {LEAST_QUALITY}", np.array(rich, int))):
            if len(chosen):
                some = bits[chosen]
                say(
                    f"  {what}, {of}: found {np.mean(some <= DISTANCE):.4f}, bits p50 {np.median(some):.0f}, "
                    f"p99 {np.percentile(some, 99):.0f}"
                )
    codes = np.unique([str(kind) for kind in drawn.kinds], return_inverse=True)[1]
    for of, chosen in (("all", np.arange(len(originals))), (f"quality >= {LEAST_QUALITY}", np.array(rich, int))):
        some = [originals[index] for index in chosen]
        unlike = np.triu(codes[chosen][:, None] != codes[chosen][None, :], 1)
        false, pairs = int((distances(some, some)[unlike] <= DISTANCE).sum()), int(unlike.sum())
        say(
            f"  unlike pairs, {of}: {false} of {pairs} within {DISTANCE} bits ({false / max(1, pairs):.7f}); "
            f"items that are in one of them: {_mistaken(some, unlike)}"
        )


def _mistaken(hashes: Sequence[PerceptualHash], unlike: NDArray[np.bool_]) -> int:
    """Count the images that an unlike one before them is taken for."""
    near = (distances(hashes, hashes) <= DISTANCE) & unlike
    return int(near.any(axis=0).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--photographs", type=int, default=200)
    parser.add_argument("--only-pairs", action="store_true", help="alter nothing: compare the images with one another")
    arguments = parser.parse_args()
    for name, drawn in (
        ("drawn scenes", scenes(arguments.scenes)),
        ("photographs", photographs(arguments.photographs)),
    ):
        report(name, drawn, only_pairs=arguments.only_pairs)


if __name__ == "__main__":
    main()
