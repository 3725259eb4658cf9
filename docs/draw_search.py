"""Drawing of searches over drawn scenes: what each query finds alone, what they find together, groups and diversity.

lensmesh up --model shapes --caption-model shapes
python -m docs.draw_search 127.0.0.1:50050 docs

It stores 256 scenes, each drawn three times, in a collection of its own, searches it, writes search-fusion.png and
search-choices.png into the folder, and deletes the collection again. One row for each search; below each image its
score, and its rank in each query.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from PIL import Image

from lensmesh_client import Captions, Client, Hit, IngestItem, Query, Search
from lensmesh_shapes import Facts, Group, Scene, draw

COLLECTION = "draw-search"
SHOWN = 7
COLOURS, SHAPES = ("red", "blue", "green", "yellow"), ("star", "ring", "square", "circle")
VIEWS = 3
SIDE_PX = 160
ROW_INCHES, COLUMN_INCHES, HEAD_INCHES = 1.75, 1.3, 2.1
INK, SOFT, ACCENT, AWAY = "#1c2530", "#5d6b7a", "#0b6bcb", "#b3372f"

STAR, SQUARE = "a large red star", "a large red square"
BOTH = [Query(STAR, name="star"), Query(SQUARE, name="square")]
FUSION = {
    f"“{STAR}”": Search(STAR),
    f"“{SQUARE}”": Search(SQUARE),
    "both, by ranks (rrf)": Search(queries=BOTH),
    "both, by scores (weighted)": Search(queries=BOTH, fusion="weighted"),
    f"“{STAR}”,\nnot “{SQUARE}”": Search(queries=[BOTH[0], replace(BOTH[1], weight=-1)]),
}
CHOICES = {
    f"“{STAR}”": Search(STAR),
    "one hit for each scene": Search(STAR, group_by="scene"),
    "diversity 0.5": Search(STAR, diversity=0.5),
    "diversity 0.8": Search(STAR, diversity=0.8),
}


@dataclass(frozen=True)
class Row:
    """A search, and what it found."""

    title: str
    search: Search
    hits: Sequence[Hit]


def scenes(folder: Path) -> Iterator[IngestItem]:
    """Draw one thing, or one left of another, in every way; each several times, with other places and grounds."""
    things = [Group(1, "large", colour, shape) for colour in COLOURS for shape in SHAPES]
    pairs = [Facts(one, "left of", two) for one in things for two in things if one != two]
    for number, facts in enumerate([*map(Facts, things), *pairs]):
        for view in range(VIEWS):
            path = folder / f"{number}-{view}.png"
            draw(Scene(facts, VIEWS * number + view), SIDE_PX).save(path)
            yield IngestItem(path, id=path.name, metadata={"scene": number, "view": view})


async def find(target: str, searches: Mapping[str, Mapping[str, Search]], folder: Path) -> dict[str, list[Row]]:
    """Store the scenes, do the searches, and delete the collection. Images lie in the folder by their item's id."""
    async with Client(target, timeout_s=120) as client:
        await client.collections.create(COLLECTION)
        try:
            async for result in client.ingest_many(scenes(folder), collection=COLLECTION, captions=Captions.NONE):
                if result.error is not None:
                    raise result.error
            return {name: await _rows(client, several) for name, several in searches.items()}
        finally:
            await client.collections.delete(COLLECTION)


async def _rows(client: Client, searches: Mapping[str, Search]) -> list[Row]:
    asked = [replace(search, collection=COLLECTION, limit=SHOWN) for search in searches.values()]
    found = await client.search_many(asked)
    for result in found:
        if result.error is not None:
            raise result.error
    return [Row(title, search, result.hits) for title, search, result in zip(searches, asked, found, strict=True)]


def chart(rows: Sequence[Row], folder: Path, to: Path) -> None:
    """Write one image with a row for each search."""
    size = (HEAD_INCHES + SHOWN * COLUMN_INCHES, ROW_INCHES * len(rows))
    figure, places = plt.subplots(
        len(rows), SHOWN + 1, figsize=size, width_ratios=[HEAD_INCHES, *[COLUMN_INCHES] * SHOWN], layout="constrained"
    )
    for axes in places.flat:
        axes.set_axis_off()
    for (head, *cells), row in zip(places, rows, strict=True):
        head.text(1, 0.5, row.title, ha="right", va="center", fontsize=10, color=INK, transform=head.transAxes)
        for axes, hit in zip(cells, row.hits, strict=False):
            axes.imshow(plt.imread(folder / hit.id))
            _tell(axes, hit, row.search)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100, bbox_inches="tight", pad_inches=0.1)
    plt.close(figure)
    # A quarter of the bytes. Median cut, which is the default, leaves no yellow where there is little of it.
    Image.open(drawn).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE).save(
        to, optimize=True
    )


def _tell(axes: Axes, hit: Hit, search: Search) -> None:
    """Write the score below an image, and below that its ranks in the queries, or its group."""
    weights = {query.name: query.weight for query in search.queries or () if isinstance(query, Query)}
    below = [(f"{hit.score:.4f}" if weights else f"{hit.score:.3f}", 0.5, -0.1, ACCENT)]
    ranks = {leg.name: f"#{leg.rank}" for leg in hit.legs}
    for place, (name, weight) in enumerate(weights.items()):
        said = f"{name} {ranks.get(name, '-')}"
        below.append((said, (1 + 2 * place) / (2 * len(weights)), -0.25, AWAY if weight < 0 else SOFT))
    if hit.group is not None:
        below.append((f"scene {hit.group[0]}", 0.5, -0.25, SOFT))
    for text, x, y, colour in below:
        size = 8 if colour == ACCENT else 6.5
        axes.text(x, y, text, ha="center", va="center", fontsize=size, color=colour, transform=axes.transAxes)


def main() -> None:
    """Search and draw."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("router", help="address of a router of a mesh with the bundled models")
    asked.add_argument("folder", type=Path, help="where the two PNG files go")
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as drawn:
        found = asyncio.run(find(options.router, {"fusion": FUSION, "choices": CHOICES}, Path(drawn)))
        for name, rows in found.items():
            chart(rows, Path(drawn), options.folder / f"search-{name}.png")


if __name__ == "__main__":
    main()
