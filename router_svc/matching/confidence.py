"""Confidence of a match, from 0 to 1, as a stated function of each kind of evidence. Figures: docs/matching.md."""

import math
from typing import Final

from router_svc.matching.geometry import Alignment

# Geometry: what adds how much to the logarithm of the odds. Fitted to altered copies of drawn scenes and photographs
# among 3,000, and to as many images that are none of them. Images that share parts have inliers too: then their places
# are few, more pairs contradict them, and the vector does not stand out.
_WITHOUT: Final = -14.3
_LOG_PLACES: Final = 3.5
_LOG_AGREEMENT: Final = 1.6
_Z_SCORE: Final = 2.1
# Less of a z-score says no less, and more no more. Where it is not known, it counts as so much.
_Z_SCORE_LEAST, _Z_SCORE_MOST, _Z_SCORE_UNKNOWN = 1.0, 5.0, 3.0
# Inliers at fewer places could be chance.
_LEAST_PLACES: Final = 6
# A hash: 0.5 where so many bits differ, and how many bits change the odds by e.
_HASH_HALF: Final = 36.0
_HASH_SCALE: Final = 5.0
# A vector: 0.5 where the cosine and the margin are these, and how much of each changes the odds by e.
_COSINE_HALF: Final = 0.96
_COSINE_SCALE: Final = 0.01
_MARGIN_HALF: Final = 0.03
_MARGIN_SCALE: Final = 0.01
# More of a margin says no more.
_MARGIN_MOST: Final = 0.1
# Vectors never speak with more certainty than this: other images may have the same.
_VECTOR_MOST: Final = 0.95


def geometry_confidence(alignment: Alignment, z_score: float | None = None) -> float:
    """Return the confidence of one change of perspective that explains pairs of points; 0 for few places.

    Args:
        alignment: of the image and the item.
        z_score: by how many standard deviations the item's cosine exceeds those of other entries; None if unknown.
    """
    if alignment.place_count < _LEAST_PLACES:
        return 0.0
    others = alignment.tentative_count - alignment.inlier_count
    agreement = math.log((alignment.inlier_count + 0.5) / (others + 0.5))
    z_score = _Z_SCORE_UNKNOWN if z_score is None else min(max(z_score, _Z_SCORE_LEAST), _Z_SCORE_MOST)
    places = math.log(alignment.place_count)
    return _logistic(_WITHOUT + _LOG_PLACES * places + _LOG_AGREEMENT * agreement + _Z_SCORE * z_score)


def hash_confidence(distance: int) -> float:
    """Return the confidence of two perceptual hashes that differ in `distance` of their 256 bits."""
    return _logistic((_HASH_HALF - distance) / _HASH_SCALE)


def vector_confidence(cosine: float, next_cosine: float | None) -> float:
    """Return the confidence of a cosine similarity.

    Args:
        cosine: of the image and the entry's nearest view, -1 to 1.
        next_cosine: of the image and the nearest view of any other entry; None where there is no other, which says
            nothing for this one.
    """
    margin = 0.0 if next_cosine is None else min(max(cosine - next_cosine, 0.0), _MARGIN_MOST)
    odds = (cosine - _COSINE_HALF) / _COSINE_SCALE + (margin - _MARGIN_HALF) / _MARGIN_SCALE
    return _VECTOR_MOST * _logistic(odds)


def _logistic(odds: float) -> float:
    """Return 1 / (1 + exp(-odds)) for odds of any size."""
    return 0.5 * (1.0 + math.tanh(0.5 * odds))
