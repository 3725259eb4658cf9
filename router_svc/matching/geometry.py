"""Geometry of two images: one change of perspective that brings points of the one to their like in the other."""

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from router_svc.matching.local_points import Floats, LocalPoints, alike
from router_svc.matching.opencv import opencv

Doubles: TypeAlias = NDArray[np.float64]

# Fewer pairs say nothing: four are what a homography takes.
_LEAST_PAIRS: Final = 6
# How far from its like a point may come to lie, and how closely OpenCV looks, which counts in pixels.
_TOLERANCE: Final = 0.012
_PIXELS: Final = 1_000.0
_TRIES: Final = 2_000
_CERTAINTY: Final = 0.995
# A square with this side is one place. Corners are found again in several sizes of an image, and many lie together
# where two images share a part.
_PLACE: Final = 0.05
# What a photograph of a flat thing may look like: areas at most 25 times as large or small, no side pressed together
# more than 5 times as much as the other, and inliers that do not lie on a line.
_MOST_AREA: Final = 25.0
_MOST_SQUEEZE: Final = 5.0
_LEAST_SPREAD: Final = 0.01
# Inliers that are told of.
_TOLD: Final = 64


@dataclass(frozen=True, slots=True)
class Alignment:
    """What the points of two images say together."""

    query_point_count: int
    item_point_count: int
    tentative_count: int = 0
    """Pairs whose descriptors are alike."""
    inlier_count: int = 0
    """Pairs that one homography explains; 0 where none could be of a photograph."""
    place_count: int = 0
    """Different places of the inliers, of the image in which there are fewer."""
    homography: tuple[float, ...] = ()
    """Nine numbers, row by row, from the query to the item in units of each one's longer side; the last is 1."""
    pairs: tuple[float, ...] = ()
    """Some inliers: x and y in the query, x and y in the item."""


def align(query: LocalPoints, item: LocalPoints) -> Alignment:
    """Compare the points of an image with those of an item. It takes some milliseconds for 450 points each.

    Homographies are found by RANSAC with MAGSAC's scores (Barath et al. 2020), the same ones each time.
    """
    ours, theirs = alike(query, item)
    count = len(ours)
    found = None
    if count >= _LEAST_PAIRS:
        found = _homography(query.places[ours], item.places[theirs])
    if found is None:
        return Alignment(len(query), len(item), count)
    homography, inliers = found
    one, other = query.places[ours][inliers], item.places[theirs][inliers]
    if not _is_sane(homography, one, other):
        return Alignment(len(query), len(item), count)
    return Alignment(
        len(query),
        len(item),
        count,
        len(one),
        min(_place_count(one), _place_count(other)),
        tuple(float(number) for number in homography.ravel()),
        _told(one, other),
    )


def _homography(query: Floats, item: Floats) -> tuple[Doubles, NDArray[np.bool_]] | None:
    """Return the homography that explains most pairs, in units of the longer side, and which those are."""
    cv2: Any = opencv()
    try:
        found, mask = cv2.findHomography(
            query * _PIXELS,
            item * _PIXELS,
            cv2.USAC_MAGSAC,
            _TOLERANCE * _PIXELS,
            maxIters=_TRIES,
            confidence=_CERTAINTY,
        )
    except cv2.error:
        # What points lie so that no four of them make one.
        return None
    if found is None or mask is None or not np.isfinite(found).all() or abs(found[2, 2]) < 1e-9:
        return None
    scale = np.diag([_PIXELS, _PIXELS, 1.0])
    homography = np.linalg.inv(scale) @ found @ scale
    return homography / homography[2, 2], mask.ravel().astype(bool)


def _is_sane(homography: Doubles, query: Floats, item: Floats) -> bool:
    """Tell whether a homography could be of two photographs of one flat thing.

    At each inlier its derivative must not mirror, and neither scale nor squeeze more than photographs do.
    """
    if len(query) < _LEAST_PAIRS or min(_spread(query), _spread(item)) < _LEAST_SPREAD:
        return False
    lengthened = np.column_stack([query.astype(np.float64), np.ones(len(query))])
    mapped = lengthened @ homography.T
    depths = mapped[:, 2:]
    # Behind the camera, or nearly so.
    if (depths < 0.1).any():
        return False
    places = mapped[:, :2] / depths
    slopes = (homography[None, :2, :2] - places[:, :, None] * homography[None, 2:, :2]) / depths[:, :, None]
    areas = np.linalg.det(slopes)
    if (areas < 1 / _MOST_AREA).any() or (areas > _MOST_AREA).any():
        return False
    stretch = np.linalg.svd(slopes, compute_uv=False)
    return bool((stretch[:, 0] <= _MOST_SQUEEZE * stretch[:, 1]).all())


def _spread(places: Floats) -> float:
    """Return how far places lie from the line that fits them best, as a standard deviation."""
    around = places.astype(np.float64) - places.mean(axis=0)
    return float(np.linalg.svd(around, compute_uv=False)[1] / len(places) ** 0.5)


def _place_count(places: Floats) -> int:
    return len(np.unique((places / _PLACE).astype(np.int32), axis=0))


def _told(one: Floats, other: Floats) -> tuple[float, ...]:
    """Return some pairs at most, spread over the query from left to right."""
    order = np.argsort(one[:, 0], kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(_TOLD, len(order))).astype(np.intp))]
    return tuple(float(number) for number in np.hstack([one[chosen], other[chosen]]).ravel())
