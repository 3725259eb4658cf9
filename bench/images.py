"""The cost of one image on one core: as open_clip prepares it with Pillow, and as this service does.

    python -m bench.images                         beside open_clip's own transform
    python -m bench.images --against CHECKOUT      beside another checkout's code: JPEG, PNG and WebP

Both make the same 224 x 224 pixels of the same files, in turn. Processor time is measured: a busy machine makes it
longer by its caches, but not by its queue. Each size is printed as soon as it is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from bench.files import make_files
from bench.machine import this_machine
from bench.worker import Worker
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.prepare import prepare
from lensmesh_inference.images.transform import Transform, normalize_of_open_clip

SIZES = ((640, 480), (1920, 1440), (4000, 3000))
FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
AGAINST_SIZES = ((640, 480), (1000, 800), (4000, 3000))
# Of each turn in a comparison of two checkouts.
TURN_MS = 100
OURS, WHOLE, PILLOW = "ours", "ours, scaled_decoding off", "open_clip with Pillow"


@dataclass(frozen=True)
class Row:
    """The figures of one way for one size: milliseconds of each image, and how far its pixels are from open_clip's.

    The mean difference of pixels is in levels of 255.
    """

    size: tuple[int, int]
    way: str
    milliseconds: list[float]
    difference: float


def measure(folder: Path, size: tuple[int, int], *, files: int, rounds: int) -> list[Row]:
    """Measure each way in turn, each file `rounds` times."""
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2

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


HEAD = "| JPEG | way | ms: min / median / max | times as fast | mean difference, of 255 |\n|---|---|---|---|---|"


def lines_of(rows: Sequence[Row]) -> str:
    """Return the milliseconds and ratios of medians of one size, in Markdown."""
    lines = []
    base = next(one for one in rows if one.way == PILLOW)
    for row in rows:
        middle = statistics.median(row.milliseconds)
        ratio = statistics.median(base.milliseconds) / middle
        lines.append(
            f"| {row.size[0]}x{row.size[1]} | {row.way} | {_three(row.milliseconds)} | {ratio:.1f} | "
            f"{row.difference:.3f} |"
        )
    return "\n".join(lines)


AGAINST_HEAD = """\
| image | the other, ms: min / median / max | this one | ratio of turns: min / median / max |
|---|---|---|---|"""


async def compare(folder: Path, checkouts: Sequence[Path], *, rounds: int) -> None:
    """Let two checkouts prepare the same files in turn, and print a line for each file."""
    workers = []
    try:
        for number, checkout in enumerate(checkouts):
            worker = Worker("bench.workers.decoding", [str(checkout)], log=folder / f"worker{number}.log")
            workers.append(await worker.start())
        for size in AGAINST_SIZES:
            for path in _in_formats(make_files(folder / f"{size[0]}", 1, {size: 1})[0]):
                sys.stdout.write(f"{await _compared(workers, path, rounds)}\n")
                sys.stdout.flush()
    finally:
        for worker in workers:
            await worker.stop()


async def _compared(workers: Sequence[Worker], path: Path, rounds: int) -> str:
    """Measure one file and return its line."""
    warm = [await worker.ask("images", path=str(path), times=3) for worker in workers]
    times = max(1, round(TURN_MS / max(one["median"] for one in warm)))
    turns = [[await worker.ask("images", path=str(path), times=times) for worker in workers] for _ in range(rounds)]
    other, this = ([one for turn in turns for one in turn[number]["milliseconds"]] for number in (0, 1))
    ratios = [turn[1]["median"] / turn[0]["median"] for turn in turns]
    ratio = f"{min(ratios):.3f} / {statistics.median(ratios):.3f} / {max(ratios):.3f}"
    return f"| {path.stem.split('-')[1]} {path.suffix[1:]} | {_three(other)} | {_three(this)} | {ratio} |"


def _in_formats(jpeg: Path) -> list[Path]:
    """Save the same image in each format."""
    paths = [jpeg]
    with Image.open(jpeg) as image:
        for kind, suffix in FORMATS.items():
            if suffix != jpeg.suffix:
                paths.append(jpeg.with_suffix(suffix))
                image.save(paths[-1], kind)
    return paths


def _three(milliseconds: Sequence[float]) -> str:
    return f"{min(milliseconds):.2f} / {statistics.median(milliseconds):.2f} / {max(milliseconds):.2f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=3, help="photographs of each size, beside open_clip")
    parser.add_argument("--rounds", type=int, default=5, help="times that each is prepared, or turns of each checkout")
    parser.add_argument("--against", type=Path, help="another checkout, whose code prepares the same files in turn")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    machine = this_machine()
    load = ", ".join(f"{one:.1f}" for one in machine.load_average)
    against = arguments.against is not None
    sys.stdout.write(f"One of {machine.title}; load average before: {load}.\n\n{AGAINST_HEAD if against else HEAD}\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder:
        if against:
            checkouts = (arguments.against.resolve(), Path(__file__).resolve().parents[1])
            asyncio.run(compare(Path(folder), checkouts, rounds=arguments.rounds))
            return
        for size in SIZES:
            rows = measure(Path(folder), size, files=arguments.files, rounds=arguments.rounds)
            sys.stdout.write(f"{lines_of(rows)}\n")
            sys.stdout.flush()


def _difference(
    ours: Callable[[bytes], torch.Tensor],
    theirs: Callable[[bytes], torch.Tensor],
    content: bytes,
    levels: torch.Tensor,
) -> float:
    return float(((ours(content) - theirs(content)).abs() * levels).mean())


if __name__ == "__main__":
    main()
