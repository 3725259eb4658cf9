"""Items as they are drawn for measuring a store, and which of them are truly nearest."""

import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from search_svc.model import Caption, Item

HITS = 10
Vectors = NDArray[np.float16]
# Values of the metadata fields: one item in a hundred has a group, one in a thousand a series.
GROUPS, SERIES = 100, 1_000
# Of a caption's words one occurs in each second item, one in each hundredth, one in each thousandth.
OFTEN, SELDOM, RARE = "seaside", "lighthouse{}", "heron{}"


def draw(random: np.random.Generator, count: int, dimension: int) -> Vectors:
    """Draw unit vectors around a thousand centres."""
    centres = np.random.default_rng(0).standard_normal((1_000, dimension))
    vectors = centres[random.integers(0, 1_000, count)] + 0.7 * random.standard_normal((count, dimension))
    units: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    return units


def pieces(size: int, dimension: int, seed: int = 1) -> Iterator[tuple[int, Vectors]]:
    """Yield the vectors of a collection piece by piece, each with the number of its first item."""
    random = np.random.default_rng(seed)
    for begin in range(0, size, 20_000):
        yield begin, draw(random, min(20_000, size - begin), dimension)


def items(vectors: Vectors, begin: int) -> list[Item]:
    """Make items with metadata and captions such as images have."""
    return [_item(number, vector) for number, vector in enumerate(vectors, start=begin)]


def _item(number: int, vector: Vectors) -> Item:
    metadata = {
        "group": f"g{number % GROUPS}",
        "series": f"s{number % SERIES}",
        "file": f"/images/{number}.jpg",
        "iso": 100,
    }
    seen = f"{SELDOM.format(number % GROUPS)} and a {RARE.format(number % SERIES)}"
    place = f" at the {OFTEN}" if number % 2 else ""
    return Item(
        f"{number:08}",
        {"image": vector},
        caption=Caption(f"a photo of a {seen}{place}", 0.9, 10, False, "bench"),
        metadata=json.dumps(metadata),
    )


class Truth:
    """The true nearest of some queries, of all items and of those with one value of a field.

    Vectors are shown piece by piece while a collection is filled; 50 queries in a million of 512 numbers take seconds.
    """

    def __init__(self, queries: Vectors, *, every: Sequence[int] = (1, GROUPS, SERIES), value: int = 7) -> None:
        self._queries = queries.astype(np.float32)
        self._value = value
        self._best: dict[int, tuple[NDArray[np.float32], NDArray[np.int64]]] = {
            step: (np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)) for step in every
        }

    def see(self, vectors: Vectors, begin: int) -> None:
        """Look at the next piece of the collection."""
        numbers = np.arange(begin, begin + len(vectors))
        scores = self._queries @ vectors.astype(np.float32).T
        for step, (best, found) in self._best.items():
            chosen = numbers % step == self._value % step
            joined = np.concatenate([best, scores[:, chosen]], axis=1)
            which = np.concatenate([found, np.broadcast_to(numbers[chosen], (len(best), chosen.sum()))], axis=1)
            order = np.argsort(-joined, axis=1)[:, :HITS]
            self._best[step] = np.take_along_axis(joined, order, 1), np.take_along_axis(which, order, 1)

    def recall(self, found: Sequence[Sequence[str]], step: int) -> float:
        """Return the share of the true nearest that searches found, 0 to 1."""
        true = [{f"{number:08}" for number in row} for row in self._best[step][1]]
        shares = [len(set(ids) & best) / len(best) for ids, best in zip(found, true, strict=True)]
        return float(np.mean(shares))


def spread(times: Sequence[float]) -> Mapping[str, float]:
    """Return the percentiles of some milliseconds."""
    p50, p95, p99 = np.percentile(times, [50, 95, 99])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99)}
