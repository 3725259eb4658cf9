"""Entries to be matched, drawn scenes and pieces of photographs, as files that every system reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from bench.altering import saved
from bench.files import add_grain, load_photographs
from lensmesh_shapes.data import sample_batch_facts
from lensmesh_shapes.facts import Facts, Scene
from lensmesh_shapes.scenes import draw

SEED: Final = 41
SCENE_PX: Final = 320
PIECE_PX: Final = 480
PIECES_A_SIDE: Final = 2
MOST_STRANGERS: Final = 400
"""The first so many scenes are never entries, so that the entries are the same however many strangers are asked."""

_FEW: Final = 100


@dataclass(frozen=True, slots=True)
class Subject:
    """Images in files: entries, and strangers that look like them and are none."""

    entries: Sequence[Path]
    strangers: Sequence[Path]
    photographs: int
    """The first so many entries are pieces of photographs."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    path: Path
    scene: Scene | None = None
    piece: tuple[int, int, int] = (0, 0, 0)
    """Number of the photograph, column and row of the piece."""


def make_subject(folder: Path, entries: int, strangers: int, step: Callable[[], None] = lambda: None) -> Subject:
    """Draw what is not yet in the folder. Call `step` for each image.

    Pieces of one photograph do not overlap; one of each photograph is a stranger. No two scenes have the same facts.
    """
    if strangers > MOST_STRANGERS:
        raise ValueError(f"strangers is {strangers}, at most {MOST_STRANGERS}")
    folder.mkdir(parents=True, exist_ok=True)
    pieces = [
        (number, x, y) for number in range(len(load_photographs())) for x, y in np.ndindex(PIECES_A_SIDE, PIECES_A_SIDE)
    ]
    known = [_Wanted(folder / f"photograph-{n}-{x}{y}.jpg", piece=(n, x, y)) for n, x, y in pieces]
    chosen, other = [one for one in known if one.piece[1:] != (0, 0)], [one for one in known if one.piece[1:] == (0, 0)]
    scenes = [*_scenes(folder, MOST_STRANGERS + entries - len(chosen))]
    wanted = [*chosen, *scenes[MOST_STRANGERS:]][:entries]
    unknown = [*other, *scenes[:MOST_STRANGERS]][:strangers]
    everything = [*wanted, *unknown]
    # A process of its own has to import what draws.
    several = len(everything) > _FEW
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1)) if several else nullcontext() as pool:
        for _ in map(_draw, everything) if pool is None else pool.map(_draw, everything, chunksize=16):
            step()
    return Subject([one.path for one in wanted], [one.path for one in unknown], min(entries, len(chosen)))


def _scenes(folder: Path, count: int) -> Iterator[_Wanted]:
    facts: list[Facts] = sample_batch_facts(np.random.default_rng(SEED), count, near=0.0)
    for number, one in enumerate(facts):
        seed = int(np.random.default_rng((SEED, number)).integers(2**31))
        yield _Wanted(folder / f"scene-{number:06}.jpg", Scene(one, seed))


def _draw(wanted: _Wanted) -> None:
    if wanted.path.exists():
        return
    image = _piece(*wanted.piece) if wanted.scene is None else draw(wanted.scene, SCENE_PX)
    # A run that is broken off leaves no half of a file.
    unfinished = wanted.path.with_suffix(".part")
    unfinished.write_bytes(saved(image, quality=92))
    unfinished.replace(wanted.path)


@cache
def _photograph(number: int) -> Image.Image:
    return load_photographs()[number]


def _piece(number: int, column: int, row: int) -> Image.Image:
    photograph = _photograph(number)
    width, height = photograph.width / PIECES_A_SIDE, photograph.height / PIECES_A_SIDE
    scale = PIECE_PX / max(width, height)
    box = (column * width, row * height, (column + 1) * width, (row + 1) * height)
    size = (round(width * scale), round(height * scale))
    part = photograph.resize(size, Image.Resampling.BICUBIC, box=box)
    return add_grain(part, (number * PIECES_A_SIDE + column) * PIECES_A_SIDE + row)
