"""What searches by several legs, groups and diversity mean, in plain numpy: the reference for every store."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_svc.legs import Diversity, Fusion, FusionMethod, VectorLeg
from search_svc.model import Collection, Definition, Hnsw, Item, NamedSpace, StoredAs, VectorSpace, View
from search_svc.store import Query, Store

DIMENSION = 12
DEPTHS = (100, 1_000, 10_000, 100_000)


@dataclass(frozen=True)
class Asked:
    """One leg: near a vector of a space, or near an item."""

    space: str
    vector: Any
    weight: float = 1.0
    item_id: str = ""


def definition() -> Definition:
    def space(key: str, normalized: bool) -> VectorSpace:
        return VectorSpace(f"vs1-{key}", "test", "", DIMENSION, normalized, ())

    return Definition(
        "pictures",
        (
            # Whole numbers: of halves the length is not quite 1, and a store that compares by dot product sees that.
            NamedSpace("image", space("image", True), StoredAs.FLOAT32, Hnsw()),
            NamedSpace("raw", space("raw", False), StoredAs.FLOAT32, None),
        ),
        (),
    )


def drawn(random: np.random.Generator, count: int) -> list[Item]:
    """Items of two spaces: some without one of the vectors, and pairs that tie in both."""
    items: list[Item] = []
    for i in range(count):
        image, raw = random.standard_normal((2, DIMENSION))
        vectors: dict[str, Any] = {
            "image": (image / np.linalg.norm(image)).astype(np.float32),
            "raw": (3 * raw).astype(np.float32),
        }
        if i % 6 == 5:
            vectors = dict(items[-1].vectors)
        if i % 7 == 3:
            del vectors["image"]
        elif i % 7 == 4:
            vectors.pop("raw", None)
        items.append(Item(f"é{i:04}", vectors, metadata=f'{{"n": {i % 3}}}'))
    return items


async def filled(store: Store, items: Sequence[Item], made: Definition | None = None) -> Collection:
    collection = (await store.create_collection(made or definition(), timeout_s=60)).collection
    for begin in range(0, len(items), 500):
        await store.upsert(collection, items[begin : begin + 500], timeout_s=60)
    return collection


def query(collection: Collection, asked: Sequence[Asked], fusion: Fusion | None, **changes: Any) -> Query:
    legs = []
    for place, each in enumerate(asked):
        space = collection.definition.space(each.space)
        assert space is not None
        vector = None if each.item_id else np.asarray(each.vector, dtype=np.float32)
        legs.append(VectorLeg(space, vector, each.item_id, f"leg{place}", each.weight, place))
    made = Query(tuple(legs), None, 10, 0, None, False, None, View.ID, max_bytes=1 << 24, fusion=fusion)
    return replace(made, **changes)


@dataclass(frozen=True)
class Told:
    """One hit as the reference tells it."""

    item_id: str
    score: float
    legs: tuple[tuple[str, float, int], ...]
    group: tuple[Any, ...] | None


def cosine(one: Any, other: Any) -> float:
    """Cosine in double precision, told as float32."""
    one, other = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    return float(np.float32(one @ other / np.linalg.norm(one) / np.linalg.norm(other)))


def by_score(scores: Mapping[str, float]) -> list[str]:
    return sorted(scores, key=lambda item_id: (-scores[item_id], item_id.encode()))


def plain(value: Any) -> Any:
    """A JSON value that equals another as JSON values do."""
    match value:
        case bool():
            return "bool", value
        case list():
            return tuple(map(plain, value))
        case dict():
            return frozenset((name, plain(each)) for name, each in value.items())
        case _:
            return value


class Reference:
    """All items compared with all that is asked.

    Args:
        items: of the collection.
        found: ids of those that may be found; None: all.
    """

    def __init__(self, items: Sequence[Item], found: set[str] | None = None) -> None:
        self._items = {item.id: item for item in items}
        self._found = set(self._items) if found is None else found

    def scores(self, asked: Sequence[Asked]) -> list[dict[str, float]]:
        """Cosines of each leg with every item that may be found."""
        askers = {leg.item_id for leg in asked}
        return [
            {
                item.id: cosine(self._vector(leg), item.vectors[leg.space])
                for item in self._items.values()
                if leg.space in item.vectors and item.id not in askers and item.id in self._found
            }
            for leg in asked
        ]

    def _vector(self, leg: Asked) -> Any:
        return self._items[leg.item_id].vectors[leg.space] if leg.item_id else leg.vector

    def hits(
        self,
        asked: Sequence[Asked],
        fusion: Fusion | None,
        *,
        limit: int,
        fields: Sequence[str] = (),
        size: int = 1,
        diversity: Diversity | None = None,
    ) -> list[Told]:
        """The first hits, as a search that compares everything has to tell them."""
        scores = self.scores(asked)
        places: list[Told] = []
        for depth in (each for each in DEPTHS if each >= (diversity.candidates if diversity else 0)):
            full = self._full(places, fields, size)
            known = {each.item_id for each in places}
            for told in self._step(asked, scores, fusion, depth, fields, full):
                taken = [each for each in places if each.group is not None and each.group == told.group]
                if (told.item_id not in known and len(taken) < size) or (
                    told.item_id not in known and told.group is None
                ):
                    places.append(told)
            if diversity and not known:
                places = self._diverse(places, asked, diversity)
            if len(places) >= limit:
                break
        return places[:limit]

    def _step(
        self,
        asked: Sequence[Asked],
        scores: Sequence[dict[str, float]],
        fusion: Fusion | None,
        depth: int,
        fields: Sequence[str],
        full: set[Any],
    ) -> list[Told]:
        found: list[list[str]] = []
        for leg, of_leg in zip(asked, scores, strict=True):
            open_ones = {item_id: score for item_id, score in of_leg.items() if self.group(item_id, fields) not in full}
            found.append(by_score(open_ones)[:depth] if leg.weight > 0 else [])
        union = {item_id for each in found for item_id in each}
        sums: dict[str, float] = dict.fromkeys(union, 0.0)
        told: dict[str, list[tuple[str, float, int]]] = {item_id: [] for item_id in union}
        for number, (leg, of_leg) in enumerate(zip(asked, scores, strict=True)):
            ranked = found[number] or by_score({item_id: of_leg[item_id] for item_id in union if item_id in of_leg})
            values = [of_leg[item_id] for item_id in ranked]
            for rank, (item_id, value) in enumerate(zip(ranked, values, strict=True), 1):
                if fusion is None:
                    sums[item_id] += value
                elif fusion.method is FusionMethod.RRF:
                    sums[item_id] += leg.weight / (fusion.k + rank)
                else:
                    span = values[0] - values[-1]
                    sums[item_id] += leg.weight * ((value - values[-1]) / span if span else 1.0)
                told[item_id].append((f"leg{number}", value, rank))
        rounded = {item_id: float(np.float32(score)) for item_id, score in sums.items()}
        return [
            Told(item_id, rounded[item_id], tuple(told[item_id]), self.group(item_id, fields))
            for item_id in by_score(rounded)
        ]

    def _full(self, places: Sequence[Told], fields: Sequence[str], size: int) -> set[Any]:
        groups = [each.group for each in places if each.group is not None] if fields else []
        return {group for group in groups if groups.count(group) >= size}

    def group(self, item_id: str, fields: Sequence[str]) -> tuple[Any, ...] | None:
        """The values of an item's group, lists as tuples; None where it has none."""
        metadata = json.loads(self._items[item_id].metadata)
        values = [metadata.get(field) for field in fields]
        if not fields or None in values:
            return None
        return tuple(map(plain, values))

    def _diverse(self, places: list[Told], asked: Sequence[Asked], diversity: Diversity) -> list[Told]:
        pool, rest = places[: diversity.candidates], places[diversity.candidates :]
        space = next(leg.space for leg in asked if leg.weight > 0)
        scores = np.array([each.score for each in pool])
        span = np.ptp(scores)
        relevance: NDArray[Any] = (scores - scores.min()) / span if span else np.ones(len(pool))
        chosen: list[int] = []
        while len(chosen) < len(pool):
            best, best_value = -1, -np.inf
            for place in range(len(pool)):
                if place in chosen:
                    continue
                nearest = max((self._similar(pool[place], pool[other], space) for other in chosen), default=0.0)
                value = (1 - diversity.strength) * relevance[place] - diversity.strength * nearest
                if value > best_value + 1e-6:
                    best, best_value = place, value
            chosen.append(best)
        return [pool[place] for place in chosen] + rest

    def _similar(self, one: Told, other: Told, space: str) -> float:
        vectors = [self._items[each.item_id].vectors.get(space) for each in (one, other)]
        return 0.0 if vectors[0] is None or vectors[1] is None else cosine(*vectors)
