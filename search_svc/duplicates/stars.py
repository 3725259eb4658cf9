"""Representatives of images that look the same, and which of them stands for which image.

Images come in an order, the first ones first. An image is a representative unless it is near to one before it. So no
two representatives are near to one another, and each other image is near to at least one: it belongs to the nearest,
of equally near ones to the first. Who keeps the representatives alone keeps each image, in one form or another, and no
two that look the same. (Groups are stars, not chains: all that hang together by steps, as connected components do, may
show quite different things at their ends.)
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from search_svc.duplicates.bits import Words, all_distances
from search_svc.duplicates.near_pairs import Places, near_pairs

# So many images are compared each with each.
_LEAF = 512
# The share of the work that finding representatives is; choosing among them is the rest.
_FINDING = 0.8
NONE = -1


@dataclass(frozen=True)
class Looks:
    """Different images, in order, each with one hash or two: the image as it is, and what its frame surrounds."""

    whole: Words
    """Of shape (4, images)."""
    unframed: Words
    """Second hashes, of those that have one."""
    framed: Places
    """The images that these belong to, ascending."""

    @property
    def count(self) -> int:
        """Number of images."""
        return int(self.whole.shape[1])

    @cached_property
    def _second(self) -> Places:
        second = np.full(self.count, NONE, dtype=np.int64)
        second[self.framed] = np.arange(len(self.framed))
        return second

    def hashes(self, some: Places) -> tuple[Words, Places]:
        """Return all hashes of some of the images, and of each hash the place in `some` that it belongs to."""
        second = self._second[some]
        owners = np.flatnonzero(second != NONE)
        words = np.concatenate((self.whole[:, some], self.unframed[:, second[owners]]), axis=1)
        return words, np.concatenate((np.arange(len(some)), owners))


class Comparison:
    """The work of comparing images, in steps of some milliseconds."""

    def __init__(self, looks: Looks, max_distance: int) -> None:
        self._looks = looks
        self._max_distance = max_distance
        self.representative: NDArray[np.int64] = np.arange(looks.count)
        """The image that stands for each, once the work is done; itself where it is one."""
        self.distance: NDArray[np.uint8] = np.zeros(looks.count, dtype=np.uint8)
        """Its distance from that, in bits."""

    def steps(self) -> Iterator[float]:
        """Do the work. Yield which share is done, 0 to 1."""
        found = _Finding(self._looks, self._max_distance)
        for share in found.steps(np.arange(self._looks.count), 0.0, 1.0):
            yield _FINDING * share
        nearest = _Nearest(self._looks, self._max_distance, np.concatenate(found.representatives))
        for share in nearest.steps():
            yield _FINDING + (1 - _FINDING) * share
        nearest.tell(self.representative, self.distance)
        yield 1.0


class _Finding:
    """The search for representatives.

    The first half's are found, then whatever in the second half is near to one of them is left out, then those of the
    rest are found. So each image is only compared with representatives, and of many that are near to one another only
    one is left after the first comparison.
    """

    def __init__(self, looks: Looks, max_distance: int) -> None:
        self._looks = looks
        self._max_distance = max_distance
        self.representatives: list[Places] = []
        """Parts, in order."""

    def steps(self, some: Places, begun: float, ended: float) -> Generator[float, None, None]:
        """Find those of some images that are near to no earlier one of them. Yield shares between begun and ended."""
        if len(some) <= _LEAF:
            self.representatives.append(self._of_few(some))
            yield ended
            return
        half, whole = len(some) // 2, ended - begun
        before = len(self.representatives)
        # Each of n images is compared with those before it: a quarter of that in either half, the rest between them.
        yield from self.steps(some[:half], begun, begun + whole / 4)
        rest, first = some[half:], np.concatenate(self.representatives[before:])
        is_left = np.ones(len(rest), dtype=np.bool_)
        for share in self._leave_out(rest, first, is_left):
            yield begun + whole * (1 / 4 + share / 2)
        yield from self.steps(rest[is_left], begun + whole * 3 / 4, ended)

    def _leave_out(self, rest: Places, first: Places, is_left: NDArray[np.bool_]) -> Iterator[float]:
        hashes, owners = self._looks.hashes(rest)
        others, _ = self._looks.hashes(first)
        wanted = np.ones(len(owners), dtype=np.bool_)
        for step in near_pairs(hashes, others, self._max_distance, wanted):
            if len(step.found.first):
                is_left[owners[step.found.first]] = False
                wanted &= is_left[owners]
            yield step.share

    def _of_few(self, some: Places) -> Places:
        hashes, owners = self._looks.hashes(some)
        one, other = np.nonzero(all_distances(hashes, hashes) <= self._max_distance)
        is_near = np.zeros((len(some), len(some)), dtype=np.bool_)
        is_near[owners[one], owners[other]] = True
        is_left = np.ones(len(some), dtype=np.bool_)
        for place in np.flatnonzero(is_near.sum(axis=1) > 1):
            if is_left[place]:
                is_left[place + 1 :] &= ~is_near[place, place + 1 :]
        return some[is_left]


class _Nearest:
    """The choice of the nearest representative, for each image that is none."""

    def __init__(self, looks: Looks, max_distance: int, representatives: Places) -> None:
        self._looks = looks
        self._max_distance = max_distance
        self._representatives = representatives
        is_one = np.zeros(looks.count, dtype=np.bool_)
        is_one[representatives] = True
        self._others = np.flatnonzero(~is_one)
        # Distance and representative in one number, of which the least counts.
        self._best = np.full(len(self._others), np.iinfo(np.int64).max)

    def steps(self) -> Generator[float, None, None]:
        """Compare, and yield which share is done."""
        hashes, owners = self._looks.hashes(self._others)
        others, theirs = self._looks.hashes(self._representatives)
        wanted = np.ones(len(owners), dtype=np.bool_)
        for step in near_pairs(hashes, others, self._max_distance, wanted):
            found = step.found
            ranks = (found.distance.astype(np.int64) << 32) | self._representatives[theirs[found.second]]
            np.minimum.at(self._best, owners[found.first], ranks)
            yield step.share

    def tell(self, representative: NDArray[np.int64], distance: NDArray[np.uint8]) -> None:
        """Write the outcome of those images."""
        representative[self._others] = self._best & 0xFFFFFFFF
        distance[self._others] = self._best >> 32
