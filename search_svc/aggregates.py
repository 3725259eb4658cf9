"""Aggregations as values: what is counted and measured of items, and what comes of it."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal
from typing import TypeAlias

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from search_svc.filters import FieldPath
from search_svc.model import Facet, FieldIndex, FieldType
from search_svc.time_buckets import TimeInterval, Zone

MAX_BUCKETS = 10_000
# The item's own field whose values can be counted. It is hexadecimal text.
CONTENT_DIGEST = FieldIndex(("$content_digest",), FieldType.KEYWORD)


@dataclass(frozen=True)
class CountsByTime:
    """Number of items with a time in each interval. The path is a field's of the item's own, or leads to metadata."""

    name: str
    path: FieldPath
    interval: TimeInterval
    zone: Zone


@dataclass(frozen=True)
class DistinctCount:
    """Number of different values of the index's type that items have. The index may be `CONTENT_DIGEST`."""

    name: str
    field: FieldIndex


@dataclass(frozen=True)
class NumberStats:
    """Least, greatest, mean and sum of a field's numbers; of one item's list each number counts once."""

    name: str
    path: FieldPath


@dataclass(frozen=True)
class ValueCounts:
    """The most frequent values of a field, up to `limit` of them."""

    name: str
    field: FieldIndex
    limit: int


Aggregation: TypeAlias = CountsByTime | DistinctCount | NumberStats | ValueCounts


@dataclass(frozen=True)
class TimeBucket:
    """An interval: its first instant, what its clock is ahead of UTC then, in seconds, and how many items it has."""

    start: datetime
    utc_offset_s: int
    count: int


@dataclass(frozen=True)
class NumberSummary:
    """Figures of some numbers; all are 0 without any."""

    value_count: int = 0
    min: float = 0.0
    max: float = 0.0
    mean: float = 0.0
    sum: float = 0.0


# Doubles as decimal numbers lie between 1e-324 and 1e309: with so many digits adding them loses nothing.
EXACT = Context(prec=700)


def summary_of(count: int, least: Decimal, greatest: Decimal, total: Decimal) -> NumberSummary:
    """Round the figures of at least one number to doubles."""
    return NumberSummary(count, float(least), float(greatest), float(EXACT.divide(total, Decimal(count))), float(total))


Outcome: TypeAlias = tuple[TimeBucket, ...] | int | NumberSummary | Facet


@dataclass(frozen=True)
class Aggregate:
    """Result of one aggregation, and how many items have a value that was counted."""

    item_count: int
    outcome: Outcome


@dataclass(frozen=True)
class AggregatedItems:
    """Number of items that were chosen, and what each aggregation comes to, in their order.

    Some are None where the store stopped for the size of others.
    """

    item_count: int
    results: tuple[Aggregate | None, ...]


def too_many_buckets(asked: CountsByTime, place: int) -> InvalidInput:
    """Build the error for items that are spread over too many intervals; `place` is where the request asks it."""
    longer = [interval for interval in TimeInterval if interval.position > asked.interval.position]
    fix = f"a longer interval than {asked.interval.name} ({', '.join(i.name for i in longer)}), or " if longer else ""
    return InvalidInput(
        Reason.AGGREGATION_TOO_LARGE,
        f"the aggregation {asked.name!r} has more than {MAX_BUCKETS} buckets: use {fix}a filter for less time",
        field=f"aggregations[{place}].counts_by_time.interval",
        metadata={"aggregation": asked.name, "limit": MAX_BUCKETS},
    )


def too_many_values(name: str, place: int, limit: int) -> InvalidInput:
    """Build the error for more different values than a store can tell apart in one call."""
    return InvalidInput(
        Reason.AGGREGATION_TOO_LARGE,
        f"the aggregation {name!r} has more than {limit} different values, and this store counts no more: use a filter"
        " for fewer items",
        field=f"aggregations[{place}].distinct_count",
        metadata={"aggregation": name, "limit": limit},
    )
