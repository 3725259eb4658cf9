"""OpenCV's own way to match: its local features and its FLANN matcher, then RANSAC."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2 as untyped_cv2
import numpy as np
from numpy.typing import NDArray

from bench.match.answers import Answer

MOST_POINTS: Final = 500
NEIGHBOURS: Final = 5
"""Entries' points that each point of a query votes for."""
VERIFIED: Final = 20
"""Entries with the most votes that geometry looks at."""
RATIO: Final = 0.8
"""Distance of the nearest point over that of the next one, at most (Lowe 2004)."""
REACH_PX: Final = 5.0
MOST_CHANGE: Final = 4.0
"""The most by which a copy is larger or smaller, in length."""
_KD_TREE, _LSH = 1, 6
# Its stubs do not know all of it.
cv2: Any = untyped_cv2


@dataclass(frozen=True, slots=True)
class Points:
    """Places of points of an image, float32 [n, 2] in pixels, and their descriptors, [n, d]."""

    places: NDArray[np.float32]
    descriptors: NDArray[Any]


class Features:
    """A kind of local features."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._detector = cv2.SIFT_create(MOST_POINTS) if kind == "SIFT" else cv2.ORB_create(MOST_POINTS)
        self._none: NDArray[Any] = np.zeros((0, 128), np.float32) if kind == "SIFT" else np.zeros((0, 32), np.uint8)

    def of(self, content: bytes) -> Points:
        """Find the points of a JPEG file."""
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
        found, descriptors = self._detector.detectAndCompute(image, None)
        if descriptors is None:
            return Points(np.zeros((0, 2), np.float32), self._none)
        return Points(np.array([one.pt for one in found], np.float32), descriptors)

    def matcher(self) -> Any:
        """Return a FLANN matcher with the index that OpenCV's guide names for such features."""
        if self.kind == "SIFT":
            return cv2.FlannBasedMatcher({"algorithm": _KD_TREE, "trees": 5}, {"checks": 50})
        index = {"algorithm": _LSH, "table_number": 6, "key_size": 12, "multi_probe_level": 1}
        return cv2.FlannBasedMatcher(index, {"checks": 50})

    def verify(self, query: Points, entry: Points) -> int:
        """Count the points of a query that one change of perspective moves onto those of an entry."""
        if len(query.places) < 4 or len(entry.places) < 4:
            return 0
        brute = cv2.BFMatcher(cv2.NORM_L2 if self.kind == "SIFT" else cv2.NORM_HAMMING)
        pairs = [
            one
            for one, *rest in brute.knnMatch(query.descriptors, entry.descriptors, k=2)
            if rest and one.distance < RATIO * rest[0].distance
        ]
        if len(pairs) < 4:
            return 0
        of = query.places[[one.queryIdx for one in pairs]]
        to = np.array([one.trainIdx for one in pairs])
        homography, inliers = cv2.findHomography(of, entry.places[to], cv2.RANSAC, REACH_PX)
        if homography is None or not _plausible(homography, query.places):
            return 0
        # Four like shapes may all be taken for one.
        return len(np.unique(to[inliers.ravel() == 1]))


def _plausible(homography: NDArray[np.float64], places: NDArray[np.float32]) -> bool:
    """Tell whether a change of perspective could come of a photograph: neither a mirror image nor a dot."""
    (left, top), (right, bottom) = places.min(axis=0), places.max(axis=0)
    corners = np.array([(left, top, 1), (right, top, 1), (right, bottom, 1), (left, bottom, 1)], float)
    moved = corners @ homography.T
    if (moved[:, 2] <= 0).any():
        return False
    x, y = (moved[:, :2] / moved[:, 2:]).T
    area = 0.5 * float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))
    before = float((right - left) * (bottom - top)) or 1.0
    return MOST_CHANGE**-2 < area / before < MOST_CHANGE**2


class _Verified:
    """A matcher that ranks entries by votes and lets geometry decide among the first."""

    def __init__(self, name: str, features: Features, entries: Sequence[Points]) -> None:
        self.name = name
        self._features = features
        self._entries = entries

    def votes(self, query: Points) -> NDArray[np.int64]:
        """Count the votes of each entry."""
        raise NotImplementedError

    def match(self, content: bytes) -> Answer:
        """Tell which entry a JPEG file shows. The confidence is the count of points that agree."""
        began = time.perf_counter()
        query = self._features.of(content)
        best, most = None, 0
        order: list[int] = []
        if len(query.places):
            votes = self.votes(query)
            order = [int(number) for number in np.argsort(-votes, kind="stable")[:VERIFIED] if votes[number]]
            for number in order:
                agreed = self._features.verify(query, self._entries[number])
                if agreed > most:
                    best, most = number, agreed
        return Answer(best, most, time.perf_counter() - began, candidates=order)


class OneIndex(_Verified):
    """One FLANN index over the points of all entries. Each point of a query votes for the entries nearest to it."""

    def __init__(self, features: Features, entries: Sequence[Points]) -> None:
        super().__init__(f"{features.kind}, one FLANN index", features, entries)
        self._matcher = features.matcher()
        # FLANN passes over an image without points, and would count the others anew.
        self._numbers = np.array([number for number, one in enumerate(entries) if len(one.places)])
        self._matcher.add([entries[number].descriptors for number in self._numbers])
        self._matcher.train()

    def votes(self, query: Points) -> NDArray[np.int64]:
        found = self._matcher.knnMatch(query.descriptors, k=NEIGHBOURS)
        images = [one.imgIdx for each in found for one in each]
        return np.bincount(self._numbers[images], minlength=len(self._entries))


class EachEntry(_Verified):
    """A FLANN index for each entry, asked one after another: the points that pass Lowe's ratio are its votes."""

    def __init__(self, features: Features, entries: Sequence[Points]) -> None:
        super().__init__(f"{features.kind}, FLANN entry by entry", features, entries)
        self._matchers = []
        for one in entries:
            matcher = features.matcher() if len(one.places) > 1 else None
            if matcher is not None:
                matcher.add([one.descriptors])
                matcher.train()
            self._matchers.append(matcher)

    def votes(self, query: Points) -> NDArray[np.int64]:
        counts = np.zeros(len(self._entries), np.int64)
        for number, matcher in enumerate(self._matchers):
            if matcher is not None:
                pairs = matcher.knnMatch(query.descriptors, k=2)
                counts[number] = sum(len(two) > 1 and two[0].distance < RATIO * two[1].distance for two in pairs)
        return counts


def points_of(paths: Sequence[Path], features: Features, step: Callable[[], None] = lambda: None) -> list[Points]:
    """Find the points of all entries."""
    found = []
    for path in paths:
        found.append(features.of(path.read_bytes()))
        step()
    return found
