"""Counts and measures of items in one call, and their results: `Client.items.aggregate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from lensmesh_client.stored import Facet


class TimeInterval(StrEnum):
    """The length of a bucket of time."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    """From Monday."""
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class CountsByTime:
    """Number of items in each hour, day, week, ..."""

    field: str = "$create_time"
    """"$create_time", "$update_time", or a metadata path that is indexed as `FieldType.TIME`."""
    interval: TimeInterval | str = TimeInterval.DAY
    time_zone: str = ""
    """Zone whose clock tells where an interval begins: empty for UTC, an offset ("+02:00"), or an IANA name."""


@dataclass(frozen=True, slots=True)
class DistinctCount:
    """Number of different values."""

    field: str
    """An indexed metadata path, or "$content_digest": how many different images."""


@dataclass(frozen=True, slots=True)
class NumberStats:
    """Least, greatest, mean and sum of numbers."""

    field: str
    """A metadata path that is indexed as `FieldType.NUMBER`."""


@dataclass(frozen=True, slots=True)
class ValueCounts:
    """Number of items with each value, as `items.facets` counts."""

    field: str
    """An indexed metadata path."""
    limit: int = 0
    """Values, most frequent first, up to `Limits.max_page_size`; 0 means 20."""


Aggregation: TypeAlias = CountsByTime | DistinctCount | NumberStats | ValueCounts


@dataclass(frozen=True, slots=True)
class TimeBucket:
    """An interval of time."""

    start: datetime
    """Its first instant, as the time zone's clock shows it."""
    count: int
    """Items that have a time in it."""


@dataclass(frozen=True, slots=True)
class AggregateResult:
    """Result of one aggregation. Only what was asked for is set."""

    item_count: int
    """Items that have at least one value that was counted."""
    buckets: tuple[TimeBucket, ...] = ()
    """Of `CountsByTime`: by time; those without items are left out."""
    distinct_count: int = 0
    """Of `DistinctCount`."""
    numbers: NumberSummary | None = None
    """Of `NumberStats`; None where there are no numbers."""
    facet: Facet | None = None
    """Of `ValueCounts`."""


@dataclass(frozen=True, slots=True)
class NumberSummary:
    """Figures of some numbers; of one item's list each number counts once."""

    value_count: int
    min: float
    max: float
    mean: float
    sum: float


@dataclass(frozen=True, slots=True)
class Aggregates:
    """Results of several aggregations of the same items."""

    item_count: int
    """Items that the filter chooses."""
    results: Mapping[str, AggregateResult]
    """By the names that they were asked for by, in their order."""
