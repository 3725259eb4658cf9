"""Drawing of matches: images photographed again beside the entries that they show, with lines between their points.

lensmesh up --model shapes --caption-model mock
python -m docs.draw_matching 127.0.0.1:50050 docs

It stores drawn scenes and photographs in a collection of its own, asks for altered copies and for an image that is
none of them, writes matching.png into the folder, and deletes the collection again.
"""

from __future__ import annotations

import argparse
import asyncio
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from PIL import Image

from bench.files import load_photographs
from bench.match.alterations import alter
from lensmesh_client import Captions, Client, IngestItem, MatchResult
from lensmesh_shapes import draw
from lensmesh_shapes.facts import held_out_scenes

COLLECTION = "draw-matching"
SIDE_PX = 320
GAP_PX = 40
INK, SOFT, ACCENT = "#1c2530", "#5d6b7a", "#0b6bcb"
TITLES = {"match": "MATCH", "unsure": "UNSURE", "no match": "NO MATCH"}


@dataclass(frozen=True)
class Case:
    """An image that is asked about, and what came of it."""

    title: str
    image: Image.Image
    result: MatchResult


def entries() -> dict[str, Image.Image]:
    """Return what is stored, by id: scenes that are drawn, and photographs."""
    photographs = [each.convert("RGB") for each in load_photographs()[2:6]]
    for each in photographs:
        each.thumbnail((SIDE_PX, SIDE_PX))
    scenes = [draw(scene, SIDE_PX) for scene in held_out_scenes(40)]
    kinds = {"photo": photographs, "scene": scenes}
    return {f"{kind} {number}": one for kind, some in kinds.items() for number, one in enumerate(some)}


def asked(stored: Mapping[str, Image.Image]) -> dict[str, bytes]:
    """Return the images that are asked about, by what was done to them."""
    stranger = draw(held_out_scenes(41)[-1], SIDE_PX)
    return {
        "perspective and blur": alter(stored["photo 1"], "perspective and blur", 3),
        "cropped to 70 % of its area": alter(stored["scene 3"], "cropped to 70 % of its area", 1),
        "rotated by 10 degrees": alter(stored["photo 0"], "rotated by 10 degrees", 1),
        "a scene that is not stored": alter(stranger, "half the size", 1),
    }


async def find(target: str) -> tuple[Mapping[str, Image.Image], list[Case]]:
    """Store the entries, ask, and delete the collection."""
    stored = entries()
    queries = asked(stored)
    async with Client(target, timeout_s=300) as client:
        items = [IngestItem(image, id=name) for name, image in stored.items()]
        try:
            async for result in client.ingest_many(
                items, collection=COLLECTION, captions=Captions.NONE, near_duplicates="store", local_features=True
            ):
                if result.error is not None:
                    raise result.error
            found = await client.match(list(queries.values()), collection=COLLECTION)
        finally:
            await client.collections.delete(COLLECTION)
    pairs = zip(queries.items(), found, strict=True)
    return stored, [Case(title, Image.open(io.BytesIO(content)), result) for (title, content), result in pairs]


def chart(stored: Mapping[str, Image.Image], cases: Sequence[Case], to: Path) -> None:
    """Write one image with a place for each case."""
    figure, places = plt.subplots(2, (len(cases) + 1) // 2, figsize=(11, 6.6), layout="constrained")
    for axes, case in zip(places.flat, cases, strict=False):
        axes.set_axis_off()
        _show(axes, stored, case)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100, bbox_inches="tight", pad_inches=0.1)
    plt.close(figure)
    Image.open(drawn).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE).save(
        to, optimize=True
    )


def _show(axes: Axes, stored: Mapping[str, Image.Image], case: Case) -> None:
    """Show the image on the left, the best entry on the right, and a line for each pair of points."""
    if case.result.error is not None:
        raise case.result.error
    best = case.result.best
    assert best is not None
    entry = stored[best.id]
    left, right = max(case.image.size), max(entry.size)
    shift = case.image.width + GAP_PX
    canvas = Image.new("RGB", (shift + entry.width, max(case.image.height, entry.height)), "white")
    canvas.paste(case.image, (0, 0))
    canvas.paste(entry, (shift, 0))
    axes.imshow(np.asarray(canvas))
    geometry = best.geometry
    for x, y, u, v in geometry.pairs if geometry else ():
        axes.plot([x * left, shift + u * right], [y * left, v * right], color=ACCENT, linewidth=0.6, alpha=0.6)
    count = f"{geometry.inlier_count} of {geometry.tentative_count} pairs" if geometry else "not compared"
    verdict = TITLES[str(case.result.verdict)]
    told = f"{verdict}, {best.confidence:.2f}, by {best.basis}: {count}"
    axes.set_title(told, fontsize=10, color=INK, loc="left", pad=18)
    axes.text(0, 1.01, case.title, transform=axes.transAxes, fontsize=9, color=SOFT, va="bottom", ha="left")


def main() -> None:
    """Ask and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("router", help="address of a router")
    parser.add_argument("folder", type=Path, help="where matching.png goes")
    options = parser.parse_args()
    stored, cases = asyncio.run(find(options.router))
    chart(stored, cases, options.folder / "matching.png")


if __name__ == "__main__":
    main()
