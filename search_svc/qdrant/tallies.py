"""Tallies of items that pass by one after the other: bounded, however many there are."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from search_svc.aggregates import (
    EXACT,
    MAX_BUCKETS,
    CountsByTime,
    NumberSummary,
    Outcome,
    TimeBucket,
    summary_of,
    too_many_buckets,
    too_many_values,
)
from search_svc.time_buckets import bucket_of, bucket_start, epoch_s

# Of all aggregations of a call together. Each costs some 32 bytes.
MAX_DISTINCT = 1_000_000
# Digests that wait to be sorted in among the others.
_PENDING = 50_000


class Tally(Protocol):
    """Counter of one aggregation."""

    item_count: int

    def add(self, values: Iterable[Any]) -> None:
        """Count one item by the values that it has of the field; there is at least one.

        Raises:
            InvalidInput: AGGREGATION_TOO_LARGE.
        """

    def outcome(self) -> Outcome:
        """Return what it comes to."""


class TimeTally:
    """Counter of items by intervals of their times, which are texts in UTC."""

    def __init__(self, asked: CountsByTime, place: int) -> None:
        self.item_count = 0
        self._asked = asked
        self._place = place
        self._counts: dict[tuple[int, int], int] = {}

    def add(self, values: Iterable[Any]) -> None:
        self.item_count += 1
        interval, zone = self._asked.interval, self._asked.zone
        for bucket in {bucket_of(epoch_s(datetime.fromisoformat(value)), interval, zone) for value in values}:
            self._counts[bucket] = self._counts.get(bucket, 0) + 1
        if len(self._counts) > MAX_BUCKETS:
            raise too_many_buckets(self._asked, self._place)

    def outcome(self) -> Outcome:
        interval, zone = self._asked.interval, self._asked.zone
        buckets = (TimeBucket(*bucket_start(each, interval, zone), count) for each, count in self._counts.items())
        return tuple(sorted(buckets, key=lambda bucket: bucket.start))


class NumberTally:
    """Figures of numbers, which are texts behind "=" as a slot holds them."""

    def __init__(self) -> None:
        self.item_count = 0
        self._count = 0
        self._total = Decimal(0)
        self._least = self._most = Decimal(0)

    def add(self, values: Iterable[Any]) -> None:
        self.item_count += 1
        for value in values:
            number = Decimal(value[1:])
            self._least = number if not self._count else min(self._least, number)
            self._most = number if not self._count else max(self._most, number)
            self._total = EXACT.add(self._total, number)
            self._count += 1

    def outcome(self) -> Outcome:
        if not self._count:
            return NumberSummary()
        return summary_of(self._count, self._least, self._most, self._total)


class DistinctRoom:
    """Number of different values that all aggregations of one call may still have."""

    def __init__(self) -> None:
        self.left = MAX_DISTINCT


class DistinctTally:
    """Counter of different values. It keeps a digest of 128 bits of each, which no two values share by chance."""

    def __init__(self, name: str, place: int, room: DistinctRoom) -> None:
        self.item_count = 0
        self._name = name
        self._place = place
        self._room = room
        self._pending: set[bytes] = set()
        self._sorted: NDArray[np.bytes_] = np.empty(0, "S32")

    def add(self, values: Iterable[Any]) -> None:
        self.item_count += 1
        # Hexadecimal: numpy drops zero bytes at the end.
        self._pending.update(blake2b(value.encode(), digest_size=16).hexdigest().encode() for value in values)
        if len(self._pending) >= _PENDING:
            self._sort_in()

    def outcome(self) -> Outcome:
        self._sort_in()
        return len(self._sorted)

    def _sort_in(self) -> None:
        before = len(self._sorted)
        self._sorted = np.union1d(self._sorted, np.array(list(self._pending), "S32"))
        self._pending.clear()
        self._room.left -= len(self._sorted) - before
        if self._room.left < 0:
            raise too_many_values(self._name, self._place, MAX_DISTINCT)
