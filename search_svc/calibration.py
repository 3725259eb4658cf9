"""Meaning of cosines in one space: how near unrelated and matching pairs are, and what relevance that makes.

CLIP puts texts and images into different parts of a space, so that a text's own image may be at a cosine of 0.3, and
two images of nothing alike at 0.5. What a cosine means is measured on the collection itself.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_svc.times import time_text

# Above this two vectors are the same image, stored twice.
_SAME = 0.9999
# Share of a collection whose images are nearest to a text's own: they may show the same thing, whatever else they are.
_ALIKE = 0.01
# Views of one thing are few, and a small collection's share of them is larger.
_LEAST_ALIKE = 2
# Quantiles that the tail of a distribution is told by, evenly spaced in the logarithm of what lies beyond: some more
# related pairs move them little. What one pair in 5,000 passes there is the most that 1 in 1,000 is taken to pass.
_TAIL = (0.1, 0.05, 0.025)
_PASSED_BY = 1 / 5_000
# Between two points of the line, so that it always rises.
_LEAST_STEP = 1e-4


class Modality(StrEnum):
    """Kind of input that a query is made of."""

    IMAGE = "image"
    TEXT = "text"


@dataclass(frozen=True)
class Calibration:
    """Cosines of unrelated pairs (median and percentiles), and of matching ones (median)."""

    modality: Modality
    median: float
    p90: float
    p99: float
    p999: float
    match_median: float
    pair_count: int
    measure_time: datetime

    def relevance(self, cosine: float) -> float:
        """Return how much nearer than unrelated pairs a cosine is, 0 to 1; it never falls as the cosine rises."""
        return float(np.interp(cosine, self._points, (0.0, 0.5, 1.0)))

    def cosine(self, relevance: float) -> float:
        """Return the least cosine of a relevance; -1 for 0, which every cosine has."""
        return float(np.interp(relevance, (0.0, 0.5, 1.0), self._points)) if relevance > 0 else -1.0

    @property
    def _points(self) -> tuple[float, float, float]:
        """Cosines of the relevances 0, 0.5 and 1."""
        half = max(self.p999, self.median + _LEAST_STEP)
        whole = self.match_median if self.match_median > half else 1.0
        return self.median, half, max(whole, half + _LEAST_STEP)


# Of each space, by its name.
Calibrations = Mapping[str, Sequence[Calibration]]


def measure_images(vectors: NDArray[np.float32], related: NDArray[np.bool_]) -> Calibration:
    """Measure pairs of stored vectors.

    Related pairs that nothing told may be among the nearest, so that the tail beyond the 90th percentile bounds the
    99.9th one.

    Args:
        vectors: of shape (n, d).
        related: pairs that are known to show the same thing, of shape (n, n).
    """
    units = _unit(vectors)
    pairs = np.triu_indices(len(units), k=1)
    cosines = (units @ units.T)[pairs]
    unrelated = cosines[(cosines < _SAME) & ~related[pairs]]
    return _calibration(Modality.IMAGE, unrelated, 1.0, most=_tail_bound(unrelated))


def measure_texts(
    texts: NDArray[np.float32], own: NDArray[np.float32], vectors: NDArray[np.float32], related: NDArray[np.bool_]
) -> Calibration:
    """Measure texts and stored vectors.

    A text is unrelated to what is not related to its own item, and is not among the images nearest to that.

    Args:
        texts: vectors of texts, of shape (m, d).
        own: vector of the item that each text is about, of shape (m, d).
        vectors: stored vectors, of shape (n, d).
        related: whether a text's item is known to show the same as another item, of shape (m, n).
    """
    units, items, stored = _unit(texts), _unit(own), _unit(vectors)
    nearness = items @ stored.T
    unrelated = ~related & (nearness < _SAME)
    count = max(_LEAST_ALIKE, math.ceil(_ALIKE * len(stored)))
    if count < len(stored):
        ranked = np.where(unrelated, nearness, -np.inf)
        nearest = np.argpartition(-ranked, count - 1, axis=1)[:, :count]
        np.put_along_axis(unrelated, nearest, False, axis=1)
    cosines = (units @ stored.T)[unrelated]
    return _calibration(Modality.TEXT, cosines, float(np.median(np.sum(units * items, axis=1))))


def _calibration(
    modality: Modality, cosines: NDArray[np.float32], match_median: float, *, most: float = 1.0
) -> Calibration:
    # Where all images are the same, there is nothing else to be near to.
    found = np.percentile(cosines, (50, 90, 99, 99.9)) if cosines.size else np.ones(4)
    median, p90, p99, p999 = (float(each) for each in found)
    p999 = max(p99, min(p999, most))
    return Calibration(modality, median, p90, p99, p999, match_median, int(cosines.size), datetime.now(UTC))


def _tail_bound(cosines: NDArray[np.float32]) -> float:
    """Return what few cosines pass in a distribution whose tail begins as theirs does.

    The tail is a generalized Pareto distribution, its shape by Pickands (1975), never heavier than exponential.
    """
    if not cosines.size:
        return 1.0
    low, middle, high = (float(each) for each in np.quantile(cosines, [1 - beyond for beyond in _TAIL]))
    if not low < middle < high:
        return 1.0
    shape = min(math.log2((high - middle) / (middle - low)), 0.0)

    def steps(beyond: float) -> float:
        """Return how many scales above the lowest lies what this share passes."""
        share = beyond / _TAIL[0]
        return -math.log(share) if shape > -1e-6 else (share**-shape - 1) / shape

    return low + (high - low) * steps(_PASSED_BY) / steps(_TAIL[2])


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    wide = vectors.astype(np.float32)
    units: NDArray[np.float32] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return units


def to_json(calibrations: Calibrations) -> str:
    """Write what stores keep with a collection."""
    kept = {
        space: [{**asdict(each), "measure_time": time_text(each.measure_time)} for each in measured]
        for space, measured in calibrations.items()
    }
    return json.dumps(kept)


def from_json(text: str) -> dict[str, tuple[Calibration, ...]]:
    """Read what stores keep with a collection; nothing of an empty text."""
    kept: dict[str, list[dict[str, Any]]] = json.loads(text or "{}")
    return {space: tuple(_read(each) for each in measured) for space, measured in kept.items()}


def _read(kept: dict[str, Any]) -> Calibration:
    moment = datetime.fromisoformat(kept["measure_time"])
    return Calibration(**{**kept, "modality": Modality(kept["modality"]), "measure_time": moment})


def joined(text: str, space: str, measured: Sequence[Calibration]) -> str:
    """Return the text to keep where `measured` of one space comes to what was kept; other modalities stay."""
    calibrations = from_json(text)
    new = {each.modality for each in measured}
    others = [each for each in calibrations.get(space, ()) if each.modality not in new]
    calibrations[space] = tuple(sorted([*others, *measured], key=lambda each: each.modality))
    return to_json(calibrations)
