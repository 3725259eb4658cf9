"""Recall of a fused search, by a text and by words of captions, beside that of each query alone.

python -m bench.fusion              150 scenes, each among five that differ from it in one fact
python -m bench.fusion --scenes 10  does it still run?

Scenes are held out of the bundled models' training. Each is described twice, once in full and once with one fact left
out: how its two groups stand to one another, or how many there are of one. One description is the text that is
compared with images, the other the words that captions are searched for, and the other way round. So each query alone
is blurred half of the time, and cannot tell the scene from some of the others.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lensmesh_client import Client, IngestItem, Query, Search, SearchResult
from lensmesh_local.supervisor import MeshOptions, Supervisor
from lensmesh_shapes import Facts, Group, Scene, caption, draw, held_out_scenes
from lensmesh_shapes.facts import COUNTS, RELATIONS, tellable

COLLECTION = "fusion"
SEED = 4_242
SIDE_PX = 160
PLURALS = COUNTS[1:]
METHODS = ("rrf", "weighted")


@dataclass(frozen=True)
class Asked:
    """A scene to find: its item, and the two descriptions of it."""

    item_id: str
    fact: str
    """The fact that is left out."""
    full: str
    blurred: str
    in_text: bool
    """True where the text is blurred, and not the words."""

    @property
    def text(self) -> str:
        """The text for the images."""
        return self.blurred if self.in_text else self.full

    @property
    def words(self) -> str:
        """The words for the captions."""
        return self.full if self.in_text else self.blurred


def targets(count: int) -> list[Scene]:
    """Return held-out scenes of two groups, of which one at least has several shapes. They are the same every time."""
    return [scene for scene in held_out_scenes(6 * count, SEED) if _many(scene.facts) is not None][:count]


def _many(facts: Facts) -> Group | None:
    """Return the group whose count can be left out: plain plurals say that there are several."""
    groups = (facts.first, facts.second) if facts.second else ()
    return next((group for group in groups if group and group.count in PLURALS), None)


def relatives(facts: Facts) -> Iterator[Facts]:
    """Yield the facts that a description without relation, or without a count, is as true of."""
    for relation in RELATIONS:
        if relation != facts.relation:
            yield replace(facts, relation=relation)
    many = _many(facts)
    for count in PLURALS:
        if many is not None and count != many.count:
            other = replace(many, count=count)
            yield replace(facts, first=other) if facts.first == many else replace(facts, second=other)


def asked(scene: Scene, item_id: str, *, turned: bool) -> Iterator[Asked]:
    """Yield the searches for one scene. Without their relation, its groups are named in this order, or `turned`."""
    facts, full = scene.facts.canonical(), caption(scene.facts)
    if facts.second is None or facts.relation is None:
        raise ValueError("a scene of two groups is needed")
    many = _many(facts)
    if many is None:
        raise ValueError("a group of several shapes is needed")
    number = ("", "a", "two", "three", "four")[many.count]
    parts = [caption(Facts(group)) for group in (facts.first, facts.second)]
    blurred = {
        "relation": " with ".join(reversed(parts) if turned else parts),
        "count": f" {facts.relation} ".join(
            part.removeprefix(f"{number} ") if group == many else part
            for part, group in zip(parts, (facts.first, facts.second), strict=True)
        ),
    }
    for fact, text in blurred.items():
        for in_text in (True, False):
            yield Asked(item_id, fact, full, text, in_text)


async def measure(client: Client, folder: Path, count: int) -> list[tuple[Asked, dict[str, bool]]]:
    """Store scenes and search for them. Return whether each way to search found the right one first."""
    scenes = targets(count)
    items, ids = _items(scenes, folder)
    async for result in client.ingest_many(items, collection=COLLECTION):
        if result.error is not None:
            raise result.error
    searches = [
        each
        for number, (scene, item_id) in enumerate(zip(scenes, ids, strict=True))
        for each in asked(scene, item_id, turned=number % 2 == 1)
    ]
    found: list[tuple[Asked, dict[str, bool]]] = [(each, {}) for each in searches]
    for name, of in _ways(searches).items():
        for (each, right), answer in zip(found, await client.search_many(of), strict=True):
            right[name] = _first(answer) == each.item_id
    return found


def _items(scenes: Sequence[Scene], folder: Path) -> tuple[list[IngestItem], list[str]]:
    """Draw each scene and its relatives. Return all of them, and the ids of the scenes themselves.

    Ids say nothing: hits of equal scores are sorted by them.
    """
    families = [[scene.facts, *(facts for facts in relatives(scene.facts) if tellable(facts))] for scene in scenes]
    numbers = iter(np.random.default_rng(SEED).permutation(sum(map(len, families))))
    items, ids = [], []
    for scene, family in zip(scenes, families, strict=True):
        for member, facts in enumerate(family):
            path = folder / f"{next(numbers):05d}.png"
            draw(Scene(facts, scene.seed + member), SIDE_PX).save(path)
            items.append(IngestItem(path, id=path.stem))
            if member == 0:
                ids.append(path.stem)
    return items, ids


def _ways(searches: Sequence[Asked]) -> dict[str, list[Search]]:
    def way(queries: Sequence[Sequence[Query]], fusion: str | None = None) -> list[Search]:
        return [Search(queries=each, fusion=fusion, collection=COLLECTION, limit=1) for each in queries]

    texts = [Query(each.text, name="text") for each in searches]
    words = [Query(words=each.words, name="words") for each in searches]
    both = [list(pair) for pair in zip(texts, words, strict=True)]
    alone = {"text": way([[each] for each in texts]), "words": way([[each] for each in words])}
    return alone | {method: way(both, method) for method in METHODS}


def _first(answer: SearchResult) -> str:
    if answer.error is not None:
        raise answer.error
    return answer.hits[0].id if answer.hits else ""


def table(found: Sequence[tuple[Asked, dict[str, bool]]]) -> str:
    """Return recall@1 as Markdown: a row for each fact and for each blurred query, and one for all."""
    ways = [*found[0][1]]
    rows = [f"| left out | of | searches | {' | '.join(ways)} |", f"|---|---|---|{'---|' * len(ways)}"]
    kinds = [(fact, in_text) for fact in ("relation", "count") for in_text in (True, False)]
    for fact, in_text in kinds:
        some = [right for each, right in found if (each.fact, each.in_text) == (fact, in_text)]
        rows.append(_row(fact, "the text" if in_text else "the words", some, ways))
    rows.append(_row("**either**", "**one of them**", [right for _, right in found], ways))
    return "\n".join(rows)


def _row(fact: str, of: str, found: Sequence[dict[str, bool]], ways: Sequence[str]) -> str:
    shares = (sum(right[way] for right in found) / max(len(found), 1) for way in ways)
    return f"| {fact} | {of} | {len(found)} | {' | '.join(f'{share:.3f}' for share in shares)} |"


async def run(count: int) -> str:
    """Start a mesh with the bundled models, measure, and return the table."""
    with tempfile.TemporaryDirectory(prefix="lensmesh-fusion-") as name:
        folder = Path(name)
        (folder / "scenes").mkdir()
        options = MeshOptions(folder / "data", port=0, model="shapes", caption_model="shapes", http=False)
        async with (
            Supervisor(options, lambda _: None) as mesh,
            Client(mesh.router, security=mesh.security, timeout_s=300) as client,
        ):
            return table(await measure(client, folder / "scenes", count))


def main() -> int:
    """Measure and print. Return 1 where fusion by ranks was not better than each query alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=150, help="scenes to find; each comes with five relatives")
    told = asyncio.run(run(parser.parse_args().scenes))
    sys.stdout.write(f"{told}\n")
    text, words, *fused = (float(cell) for cell in told.splitlines()[-1].split("|")[4:-1])
    return 0 if max(fused) > max(text, words) else 1


if __name__ == "__main__":
    sys.exit(main())
