"""Items as they are compared: what a store tells of each, and how many are held in memory."""

import itertools
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search_svc.hashes import HASH_BYTES, LEAST_QUALITY, PerceptualHash

MAX_ITEMS = 1_000_000
NO_QUALITY = 255
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NOTHING = bytes(HASH_BYTES)


class HashedItem(NamedTuple):
    """Facts of an item that tell what looks the same."""

    id: str
    create_time: datetime
    content_digest: bytes
    perceptual_hash: PerceptualHash | None


@dataclass(frozen=True)
class HashPage:
    """A page of a collection's items, and the position behind it; None: there are no more."""

    items: tuple[HashedItem, ...]
    next_after: str | None


@dataclass(frozen=True)
class ItemColumns:
    """Items by column, each in the order in which they were made, those of one moment by id."""

    times: NDArray[np.int64]
    """In microseconds since 1970."""
    digests: NDArray[np.uint64]
    """Of shape (items, 4); any numbers where `digested` is false."""
    digested: NDArray[np.bool_]
    """True where there is a digest."""
    qualities: NDArray[np.uint8]
    """NO_QUALITY without a hash."""
    hashes: NDArray[np.uint64]
    """Of shape (items, 4); zeros where `hashed` is false."""
    hashed: NDArray[np.bool_]
    """True where the hash is to be compared."""
    framed: NDArray[np.int64]
    """Items with a second hash, ascending."""
    unframed: NDArray[np.uint64]
    """Second hashes, of shape (framed items, 4)."""


class CollectedItems:
    """Items that can be compared, gathered page by page. An item takes some hundred bytes, and its id.

    Those that have neither a digest nor a hash that may be compared are only counted.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._ids = bytearray()
        self._ends = array("q")
        self._times = array("q")
        self._digests = bytearray()
        self._digested = bytearray()
        self._qualities = bytearray()
        self._hashes = bytearray()
        self._framed = array("q")
        self._unframed = bytearray()
        self._order: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    @property
    def count(self) -> int:
        """Number of items that can be compared."""
        return len(self._times)

    def add(self, items: Iterable[HashedItem]) -> None:
        """Take the items of a page."""
        for item in items:
            perceptual = item.perceptual_hash
            is_hashed = perceptual is not None and perceptual.quality >= LEAST_QUALITY
            if not is_hashed and not item.content_digest:
                self.skipped += 1
                continue
            if is_hashed and perceptual is not None and perceptual.unframed:
                self._framed.append(self.count)
                self._unframed += perceptual.unframed
            self._hashes += perceptual.hash if is_hashed and perceptual is not None else _NOTHING
            self._qualities.append(NO_QUALITY if perceptual is None else perceptual.quality)
            self._digests += item.content_digest or _NOTHING
            self._digested.append(bool(item.content_digest))
            self._times.append(microseconds_of(item.create_time))
            self._ids += item.id.encode()
            self._ends.append(len(self._ids))

    def sorted(self) -> ItemColumns:
        """Return the columns. No item may be added afterwards."""
        times = np.frombuffer(self._times, dtype=np.int64) if self._times else np.empty(0, dtype=np.int64)
        order = np.argsort(times, kind="stable")
        self._order = order
        times = times[order]
        self._sort_ties(times)
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        qualities = np.frombuffer(self._qualities, dtype=np.uint8)[order]
        framed = place[np.frombuffer(self._framed, dtype=np.int64)] if self._framed else np.empty(0, dtype=np.int64)
        by_place = np.argsort(framed)
        return ItemColumns(
            times,
            _rows(self._digests)[order],
            np.frombuffer(self._digested, dtype=np.bool_)[order],
            qualities,
            _rows(self._hashes)[order],
            (qualities >= LEAST_QUALITY) & (qualities != NO_QUALITY),
            framed[by_place],
            _rows(self._unframed)[by_place],
        )

    def id_at(self, place: int) -> str:
        """Return the id of the item at a place of the columns."""
        return self._id(int(self._order[place])).decode()

    def _sort_ties(self, times: NDArray[np.int64]) -> None:
        """Put items of one moment, as those of one call are, into the order of their ids' bytes."""
        ends = [*(np.flatnonzero(times[1:] != times[:-1]) + 1).tolist(), len(times)]
        for begin, end in itertools.pairwise((0, *ends)):
            if end - begin > 1:
                self._order[begin:end] = sorted(self._order[begin:end].tolist(), key=self._id)

    def _id(self, number: int) -> bytes:
        begin = self._ends[number - 1] if number else 0
        return bytes(self._ids[begin : self._ends[number]])


def microseconds_of(moment: datetime) -> int:
    """Return how many microseconds since 1970 a time is."""
    return (moment - _EPOCH) // _MICROSECOND


def time_at(microseconds: int) -> datetime:
    """Return the time that so many microseconds since 1970 are."""
    return _EPOCH + int(microseconds) * _MICROSECOND


def _rows(content: bytearray) -> NDArray[np.uint64]:
    return np.frombuffer(content, dtype=np.uint64).reshape(-1, HASH_BYTES // 8)
