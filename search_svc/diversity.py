"""Maximal marginal relevance (Carbonell and Goldstein 1998): hits that are near, and unlike those before them."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from search_svc.fusion import RankedItem
from search_svc.model import Numbers


def diversify(
    items: Sequence[RankedItem], vectors: Mapping[str, Numbers], *, strength: float, count: int
) -> list[RankedItem]:
    """Return the items with the first `count` chosen one by one, and the others behind them as they were.

    Each next one has the greatest (1 - strength) * relevance - strength * similarity. It takes
    O(len(items) * count * dimension).

    Args:
        items: best first; of equal choices the first counts.
        vectors: by item id, of any length but 0; an item without one is similar to none.
        strength: 0 to 1; 0 is the order of scores.
        count: how many to choose.
    """
    if not items:
        return []
    scores = np.array([each.score for each in items], dtype=np.float64)
    span = scores.max() - scores.min()
    relevance = (1 - strength) * ((scores - scores.min()) / span if span else np.ones_like(scores))
    units = _units(items, vectors)
    chosen: list[int] = []
    similarity = np.zeros(len(items))
    for _ in range(min(count, len(items))):
        # Rounded, so that stores whose cosines differ in their last digits choose alike.
        best = int(np.argmax(np.round(relevance - strength * similarity, 6)))
        # Without BLAS: its threads wait for one another on a busy machine.
        to_best = np.einsum("ij,j->i", units, units[best])
        # The first hit sets the similarity, which may be below 0 from then on.
        similarity = np.maximum(similarity, to_best) if chosen else to_best
        chosen.append(best)
        relevance[best] = -np.inf
    taken = set(chosen)
    return [items[place] for place in chosen] + [each for place, each in enumerate(items) if place not in taken]


def _units(items: Sequence[RankedItem], vectors: Mapping[str, Numbers]) -> NDArray[np.float32]:
    """Return the items' vectors at unit length, one a row; zeros where an item has none."""
    units = np.zeros((len(items), next((len(vector) for vector in vectors.values()), 1)), dtype=np.float32)
    for unit, each in zip(units, items, strict=True):
        vector = vectors.get(each.item_id)
        if vector is not None:
            unit[:] = vector
    # Twice: the squares of long and of short numbers leave float32.
    _divide(units, np.maximum(units.max(axis=1), -units.min(axis=1)))
    _divide(units, np.sqrt(np.einsum("ij,ij->i", units, units)))
    return units


def _divide(rows: NDArray[np.float32], lengths: NDArray[np.float32]) -> None:
    """Divide each row by its length in place; zeros stay as they are."""
    lengths[lengths == 0] = 1
    rows /= lengths[:, np.newaxis]
