"""What one picture costs one core: as open_clip prepares it with Pillow, and as this service does.

python -m bench.pictures

Both make the same 224 x 224 pixels of the same JPEG files, in turn. What counts is the thread's processor time, which a
busy machine makes longer by its caches, but not by its queue.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from bench.files import make_files
from bench.machine import this_machine
from lensmesh_inference.pictures.limits import ImageLimits
from lensmesh_inference.pictures.prepare import prepare
from lensmesh_inference.pictures.transform import Transform, normalize_of_open_clip

SIZES = ((640, 480), (1920, 1440), (4000, 3000))
OURS, WHOLE, PILLOW = "ours", "ours, scaled_decoding off", "open_clip with Pillow"


@dataclass(frozen=True)
class Row:
    """One way for one size: milliseconds of each picture, and how far its pixels are from open_clip's, of 255."""

    size: tuple[int, int]
    way: str
    milliseconds: list[float]
    difference: float


def measure(folder: Path, size: tuple[int, int], *, files: int, rounds: int) -> list[Row]:
    """Each way in turn, each file `rounds` times."""
    contents = [path.read_bytes() for path in make_files(folder / f"{size[0]}", files, {size: 1})]
    transform: Callable[[Image.Image], torch.Tensor] = image_transform_v2(PreprocessCfg(), is_train=False)
    config: dict[str, Any] = {"size": 224, "mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    ours, normalize, limits = Transform.from_open_clip(config), normalize_of_open_clip(config), ImageLimits()

    def made(content: bytes, *, scaled: bool) -> torch.Tensor:
        return normalize.apply(prepare(content, ours, limits, scaled=scaled).pixels.unsqueeze(0), torch.float32)[0]

    ways: dict[str, Callable[[bytes], torch.Tensor]] = {
        PILLOW: lambda content: transform(Image.open(io.BytesIO(content))),
        WHOLE: lambda content: made(content, scaled=False),
        OURS: lambda content: made(content, scaled=True),
    }
    levels = 1 / torch.tensor(normalize.scale).view(3, 1, 1)
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for content in contents:
            for way, function in ways.items():
                began = time.thread_time()
                function(content)
                times[way].append((time.thread_time() - began) * 1e3)
    return [
        Row(
            size,
            way,
            times[way],
            statistics.fmean(_difference(function, ways[PILLOW], one, levels) for one in contents),
        )
        for way, function in ways.items()
    ]


def table(rows: Sequence[Row]) -> str:
    """Milliseconds and ratios of medians, in Markdown."""
    lines = [
        "| JPEG | way | ms: min / median / max | times as fast | mean difference, of 255 |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        base = next(one for one in rows if one.size == row.size and one.way == PILLOW)
        middle = statistics.median(row.milliseconds)
        ratio = statistics.median(base.milliseconds) / middle
        lines.append(
            f"| {row.size[0]}x{row.size[1]} | {row.way} | {min(row.milliseconds):.1f} / {middle:.1f} / "
            f"{max(row.milliseconds):.1f} | {ratio:.1f} | {row.difference:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=6, help="photographs of each size")
    parser.add_argument("--rounds", type=int, default=5, help="times that each is prepared")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    machine = this_machine()
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            row for size in SIZES for row in measure(Path(folder), size, files=arguments.files, rounds=arguments.rounds)
        ]
    load = ", ".join(f"{one:.1f}" for one in machine.load_average)
    sys.stdout.write(f"One of {machine.title}; load average before: {load}.\n\n{table(rows)}\n")


def _difference(
    ours: Callable[[bytes], torch.Tensor],
    theirs: Callable[[bytes], torch.Tensor],
    content: bytes,
    levels: torch.Tensor,
) -> float:
    return float(((ours(content) - theirs(content)).abs() * levels).mean())


if __name__ == "__main__":
    main()
