"""JPEG files of photographs in many sizes and qualities: real to decode, and the same on every machine."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SEED = 7
# Ends of what cameras make, and how often each comes. An image is also upright one time in four.
SIZES: Mapping[tuple[int, int], int] = {(640, 480): 8, (1024, 768): 4, (1920, 1440): 3, (4000, 3000): 1}
QUALITIES = (75, 85, 90, 95)
# Enlarging leaves nothing but smooth areas; a sensor's noise is what costs a decoder its time.
GRAIN = 4.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to be made."""

    number: int
    width: int
    height: int
    quality: int


def plan(count: int, sizes: Mapping[tuple[int, int], int] = SIZES) -> list[Wanted]:
    """Plan `count` files whose sizes come as often as `sizes` says.

    The order mixes the sizes, and is the same each time.
    """
    drawn = random.Random(SEED)
    wheel = [size for size, times in sizes.items() for _ in range(times)]
    order = list(itertools.islice(itertools.cycle(wheel), count))
    drawn.shuffle(order)
    wanted = []
    for number, (width, height) in enumerate(order):
        if drawn.random() < 0.25:
            width, height = height, width
        wanted.append(Wanted(number, width, height, drawn.choice(QUALITIES)))
    return wanted


def make_files(
    folder: Path, count: int, sizes: Mapping[tuple[int, int], int] = SIZES, of: slice = slice(None)
) -> list[Path]:
    """Write the files into `folder`. Each shows another part of one `of` the photographs.

    Needs scikit-image and scikit-learn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    photographs = load_photographs()[of]
    paths = []
    for wanted in plan(count, sizes):
        path = folder / f"{wanted.number:04}-{wanted.width}x{wanted.height}-q{wanted.quality}.jpg"
        draw_photograph(photographs[wanted.number % len(photographs)], wanted).save(
            path, "JPEG", quality=wanted.quality
        )
        paths.append(path)
    return paths


@cache
def load_photographs() -> tuple[Image.Image, ...]:
    """Load the photographs that scikit-learn and scikit-image bring with them."""
    import skimage.data
    import sklearn.datasets

    drawn: Any = skimage.data
    loaded = [*sklearn.datasets.load_sample_images().images]
    loaded += [drawn.astronaut(), drawn.coffee(), drawn.chelsea(), drawn.rocket()]
    return tuple(Image.fromarray(np.asarray(one, np.uint8)) for one in loaded)


def draw_photograph(photograph: Image.Image, wanted: Wanted) -> Image.Image:
    """Cut a part out of a photograph, scale it to what is wanted, and add a sensor's grain."""
    drawn = random.Random(f"{SEED} {wanted.number}")
    # The largest part of the wanted shape, and of that at least two thirds.
    scale = min(photograph.width / wanted.width, photograph.height / wanted.height) * drawn.uniform(2 / 3, 1)
    width, height = wanted.width * scale, wanted.height * scale
    left, top = drawn.uniform(0, photograph.width - width), drawn.uniform(0, photograph.height - height)
    part = photograph.resize(
        (wanted.width, wanted.height), Image.Resampling.BICUBIC, box=(left, top, left + width, top + height)
    )
    return add_grain(part, wanted.number)


def add_grain(image: Image.Image, number: int) -> Image.Image:
    """Add a sensor's grain, another one for each number."""
    noise = np.random.default_rng((SEED, number)).normal(0, GRAIN, (image.height, image.width, 1))
    return Image.fromarray((np.asarray(image, np.float32) + noise).clip(0, 255).astype(np.uint8))


def say(files: Sequence[Path]) -> str:
    """Say how many files there are, and how large they are."""
    sizes = [path.stat().st_size for path in files]
    return f"{len(files)} JPEG files of {min(sizes) / 1e3:.0f} to {max(sizes) / 1e3:.0f} KB, {sum(sizes) / 1e6:.1f} MB"
