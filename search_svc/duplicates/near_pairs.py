"""Pairs of near hashes between two sets, each pair that there is, without comparing each with each.

It is multi-index hashing, as for a search by one hash (see search_svc/hashes.py), done for many at once: for one band
after the other the second set is sorted by its values there, and each of the first looks only at those whose value is
the same but for one bit. Where most of the second set has such values, as plain drawings have them, that would cost
more than it saves: then each is compared with each, which is the most that it ever costs.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search_svc.duplicates.bits import WORDS, Words, all_distances, count_bits

BANDS = 16
_VALUES = 1 << 16
_FLIPS = np.array([0, *(1 << bit for bit in range(16))], dtype=np.uint16)
# Comparing by an index costs some times as much for each pair as comparing all in a row.
_INDEX_COST = 4
# Below so many hashes an index is not worth its making.
_LEAST_INDEXED = 1024
# Of a step: some milliseconds, and arrays that stay in a processor's cache.
_QUERIES = 4096
_PAIRS = 1 << 16

Places = NDArray[np.int64]


@dataclass(frozen=True)
class NearPairs:
    """Pairs that are near: places in the first and in the second set, and how many bits they differ in."""

    first: Places
    second: Places
    distance: NDArray[np.int16]


@dataclass(frozen=True)
class Step:
    """A part of the work: what it found, and which share of the whole is done with it, 0 to 1."""

    found: NearPairs
    share: float


def near_pairs(
    first: Words, second: Words, max_distance: int, wanted: NDArray[np.bool_]
) -> Generator[Step, None, None]:
    """Find all pairs of hashes of two sets that differ in at most `max_distance` bits, which is 31 at most.

    Args:
        first: some hashes.
        second: others.
        max_distance: in bits.
        wanted: of shape (count of first,): false for those of which nothing is wanted any more. It is looked at anew
            at each step, so that who asks can change it.

    Yields:
        Steps; a pair may come in several.
    """
    if not first.shape[1] or not second.shape[1]:
        return
    costs = _costs(first, second, max_distance)
    is_dense = costs * _INDEX_COST > second.shape[1]
    if second.shape[1] < _LEAST_INDEXED:
        is_dense[:] = True
    sparse, dense = np.flatnonzero(~is_dense), np.flatnonzero(is_dense)
    # In what a step costs; one more for each hash, which is looked up in any case.
    by_index = _INDEX_COST * float(costs[sparse].sum() + BANDS * len(sparse))
    whole = by_index + float(len(dense)) * second.shape[1]
    for band in range(BANDS if len(sparse) else 0):
        index = _Band(second, band, max_distance)
        for begin in range(0, len(sparse), _QUERIES):
            some = sparse[begin : begin + _QUERIES]
            share = (band + (begin + len(some)) / len(sparse)) / BANDS * by_index / whole
            for found in index.near(first, some[wanted[some]]):
                yield Step(found, share)
    rows = max(1, _PAIRS // second.shape[1])
    for begin in range(0, len(dense), rows):
        some = dense[begin : begin + rows]
        share = (by_index + (begin + len(some)) * second.shape[1]) / whole
        some = some[wanted[some]]
        for found in _compared(first, some, second, max_distance):
            yield Step(found, share)


def bands_of(words: Words, band: int) -> NDArray[np.uint16]:
    """Return the values of all hashes in one band."""
    values: NDArray[np.uint16] = (words[band // 4] >> np.uint64(16 * (band % 4))).astype(np.uint16)
    return values


def _flips(max_distance: int) -> NDArray[np.uint16]:
    # Fewer differences than bands leave one band without any.
    return _FLIPS if max_distance >= BANDS else _FLIPS[:1]


def _costs(first: Words, second: Words, max_distance: int) -> NDArray[np.int64]:
    """Return how many of the second set each of the first would be compared with by the index."""
    costs = np.zeros(first.shape[1], dtype=np.int64)
    flips = _flips(max_distance)
    everything = np.arange(_VALUES, dtype=np.uint16)
    for band in range(BANDS):
        counts = np.bincount(bands_of(second, band), minlength=_VALUES)
        values = bands_of(first, band)
        if len(values) < _VALUES:
            costs += sum(counts[values ^ flip] for flip in flips)
        else:
            near: NDArray[np.int64] = sum(counts[everything ^ flip] for flip in flips)
            costs += near[values]
    return costs


class _Band:
    """The second set, sorted by its values in one band."""

    def __init__(self, words: Words, band: int, max_distance: int) -> None:
        self._band = band
        self._max_distance = max_distance
        values = bands_of(words, band)
        self._order = np.argsort(values, kind="stable")
        self._counts = np.bincount(values, minlength=_VALUES)
        self._begins = np.cumsum(self._counts) - self._counts
        # Two words that the band is no part of tell nearly all pairs that are not near. They lie as they are read.
        self._looked_at = (2, 3) if band < BANDS // 2 else (0, 1)
        self._sorted = [words[word][self._order] for word in self._looked_at]
        self._words = words

    def near(self, first: Words, some: Places) -> Iterator[NearPairs]:
        """Yield the near pairs of some of the first set. Comes at least once."""
        values = bands_of(first[:, some], self._band)[:, None] ^ _flips(self._max_distance)
        counts = self._counts[values]
        ends = np.cumsum(counts.sum(axis=1))
        begin = 0
        while True:
            before = int(ends[begin - 1]) if begin else 0
            # One at least: a band's values are at most as many as the set.
            end = max(begin + 1, int(np.searchsorted(ends, before + _PAIRS, side="right")))
            yield self._of(first, some[begin:end], values[begin:end], counts[begin:end])
            begin = end
            if begin >= len(some):
                return

    def _of(self, first: Words, some: Places, values: NDArray[np.uint16], counts: NDArray[np.int64]) -> NearPairs:
        lengths = counts.reshape(-1)
        ends = np.cumsum(lengths)
        # For each pair its place in the sorted set: runs of places, one for each value.
        places = np.arange(int(ends[-1])) + np.repeat(self._begins[values].reshape(-1) - (ends - lengths), lengths)
        pairs_of = counts.sum(axis=1)
        bits = np.zeros(len(places), dtype=np.uint8)
        for word, ordered in zip(self._looked_at, self._sorted, strict=True):
            bits += count_bits(np.take(ordered, places) ^ np.repeat(first[word][some], pairs_of))
        near = np.flatnonzero(bits <= self._max_distance)
        asked = some[np.searchsorted(np.cumsum(pairs_of), near, side="right")]
        other, distance = self._order[places[near]], bits[near].astype(np.int16)
        for word in set(range(WORDS)) - set(self._looked_at):
            distance += count_bits(first[word][asked] ^ self._words[word][other])
        kept = np.flatnonzero(distance <= self._max_distance)
        return NearPairs(asked[kept], other[kept], distance[kept])


def _compared(first: Words, some: Places, second: Words, max_distance: int) -> Iterator[NearPairs]:
    """Yield the near pairs of some of the first set with all of the second, compared one by one."""
    rows = max(1, len(some))
    for begin in range(0, second.shape[1], max(1, _PAIRS // rows)):
        others = second[:, begin : begin + max(1, _PAIRS // rows)]
        distance = all_distances(first[:, some], others)
        one, other = np.nonzero(distance <= max_distance)
        yield NearPairs(some[one], other + begin, distance[one, other])
