"""Fusion of several legs' rankings into one. Pure, and the same for every store, so that stores agree."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from search_svc.candidates import FoundItem
from search_svc.legs import Fusion, FusionMethod
from search_svc.model import LegScore


@dataclass(frozen=True)
class LegFindings:
    """Items that one leg knows, best first, and how many that it knows of went before them."""

    name: str
    weight: float
    found: Sequence[FoundItem]
    before: int = 0


class RankedItem(NamedTuple):
    """An item in the fused list. Its score is rounded to float32: scores that are equal then are a tie."""

    key: int
    item_id: str
    score: float
    legs: tuple[LegScore, ...]

    @property
    def order(self) -> tuple[float, bytes]:
        """The key to sort by: best first, equal scores by id."""
        return -self.score, self.item_id.encode()


def fuse(legs: Sequence[LegFindings], fusion: Fusion | None) -> list[RankedItem]:
    """Return every item that a leg of positive weight found, best first.

    Args:
        legs: what each knows, in the order of the query; those of negative weight know what others found.
        fusion: how they are joined (Cormack, Clarke and Buettcher 2009 for RRF); None: of the one leg, whose own
            scores count.
    """
    sums: dict[str, float] = {}
    told: dict[str, list[LegScore]] = {}
    keys: dict[str, int] = {}
    order = sorted(legs, key=lambda each: each.weight < 0)
    for leg in order:
        ranked = sorted(leg.found, key=lambda each: each.order)
        for rank, (each, value) in enumerate(zip(ranked, _values(ranked, leg, fusion), strict=True), leg.before + 1):
            if leg.weight > 0:
                keys.setdefault(each.item_id, each.key)
            elif each.item_id not in keys:
                continue
            sums[each.item_id] = sums.get(each.item_id, 0.0) + value
            told.setdefault(each.item_id, []).append(LegScore(leg.name, each.score, rank))
    if any(each is not leg for each, leg in zip(order, legs, strict=True)):
        places = {leg.name: place for place, leg in enumerate(legs)}
        for scores in told.values():
            scores.sort(key=lambda each: places[each.name])
    totals = np.array([sums[item_id] for item_id in keys], dtype=np.float32).tolist()
    items = [
        RankedItem(key, item_id, total, tuple(told[item_id]))
        for (item_id, key), total in zip(keys.items(), totals, strict=True)
    ]
    return sorted(items, key=lambda each: each.order)


def _values(ranked: Sequence[FoundItem], leg: LegFindings, fusion: Fusion | None) -> Iterator[float]:
    """Yield what each item of a leg, best first, adds to its fused score."""
    if fusion is None:
        yield from (each.score for each in ranked)
    elif fusion.method is FusionMethod.RRF:
        first = fusion.k + leg.before + 1
        yield from (leg.weight / (first + place) for place in range(len(ranked)))
    elif ranked:
        least, span = ranked[-1].score, ranked[0].score - ranked[-1].score
        yield from (leg.weight * ((each.score - least) / span if span else 1.0) for each in ranked)
