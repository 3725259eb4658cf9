"""Confidence of a match, from 0 to 1, as a stated function of each kind of evidence. Figures: docs/matching.md."""

import math
from typing import Final

# Geometry: what the logarithm of the inliers and what each standard deviation of the cosine adds to the logarithm of
# the odds. Fitted to altered copies of drawn scenes among 3,000, and to as many scenes that are none of them: images
# that only share parts have inliers too, but their cosines do not stand out.
_LOG_INLIERS: Final = 3.8
_Z_SCORE: Final = 1.5
_WITHOUT: Final = -15.5
# Less of it says no less, and more no more. Where it is not known, it counts as so much.
_Z_SCORE_LEAST, _Z_SCORE_MOST, _Z_SCORE_UNKNOWN = 1.0, 6.0, 3.0
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


def geometry_confidence(inlier_count: int, z_score: float | None = None) -> float:
    """Return the confidence of one change of perspective that explains so many pairs of points; 0 without any.

    Args:
        inlier_count: how many pairs.
        z_score: by how many standard deviations the item's cosine exceeds those of other entries; None if unknown.
    """
    if not inlier_count:
        return 0.0
    z_score = _Z_SCORE_UNKNOWN if z_score is None else min(max(z_score, _Z_SCORE_LEAST), _Z_SCORE_MOST)
    return _logistic(_WITHOUT + _LOG_INLIERS * math.log(inlier_count) + _Z_SCORE * z_score)


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
