"""Aggregations between the contract's messages and the client's own classes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_client import translate, translate_stored
from lensmesh_client.aggregations import (
    AggregateResult,
    Aggregates,
    Aggregation,
    CountsByTime,
    DistinctCount,
    NumberStats,
    NumberSummary,
    TimeBucket,
    TimeInterval,
    ValueCounts,
)
from lensmesh_client.guard import check_text
from lensmesh_client.requests import chosen

INTERVALS = {
    TimeInterval.HOUR: search_pb2.TIME_INTERVAL_HOUR,
    TimeInterval.DAY: search_pb2.TIME_INTERVAL_DAY,
    TimeInterval.WEEK: search_pb2.TIME_INTERVAL_WEEK,
    TimeInterval.MONTH: search_pb2.TIME_INTERVAL_MONTH,
    TimeInterval.QUARTER: search_pb2.TIME_INTERVAL_QUARTER,
    TimeInterval.YEAR: search_pb2.TIME_INTERVAL_YEAR,
}


def messages(asked: Mapping[str, Aggregation]) -> list[search_pb2.Aggregation]:
    """Make the messages of aggregations. Raises InvalidInput for one of no kind."""
    return [_message(check_text(name, "aggregations"), each) for name, each in asked.items()]


def _message(name: str, asked: Aggregation) -> search_pb2.Aggregation:
    message = search_pb2.Aggregation(name=name)
    match asked:
        case CountsByTime():
            message.counts_by_time.field = asked.field
            message.counts_by_time.interval = chosen("interval", asked.interval, TimeInterval, INTERVALS)
            message.counts_by_time.time_zone = asked.time_zone
        case DistinctCount():
            message.distinct_count.field = asked.field
        case NumberStats():
            message.number_stats.field = asked.field
        case ValueCounts():
            message.value_counts.field = asked.field
            message.value_counts.limit = asked.limit
        case _:
            raise InvalidInput(
                Reason.QUERY_INVALID,
                f"aggregations[{name!r}] is a {type(asked).__name__}: use CountsByTime, DistinctCount, NumberStats or"
                " ValueCounts",
                field="aggregations",
            )
    return message


def aggregates(message: search_pb2.AggregateResponse) -> Aggregates:
    """Translate the answer."""
    return Aggregates(message.item_count, {each.name: _result(each) for each in message.results})


def _result(message: search_pb2.AggregationResult) -> AggregateResult:
    match message.WhichOneof("outcome"):
        case "counts_by_time":
            buckets = tuple(_bucket(each) for each in message.counts_by_time.buckets)
            return AggregateResult(message.item_count, buckets=buckets)
        case "distinct_count":
            return AggregateResult(message.item_count, distinct_count=message.distinct_count)
        case "number_stats":
            numbers = message.number_stats
            summary = NumberSummary(numbers.value_count, numbers.min, numbers.max, numbers.mean, numbers.sum)
            return AggregateResult(message.item_count, numbers=summary if numbers.value_count else None)
        case "value_counts":
            [facet] = translate_stored.facets([message.value_counts])
            return AggregateResult(message.item_count, facet=facet)
        case _:
            return AggregateResult(message.item_count)


def _bucket(message: search_pb2.TimeBucket) -> TimeBucket:
    start = translate.moment(message.start)
    return TimeBucket(_on_clock(start, message.utc_offset_s), message.count)


def _on_clock(start: datetime, offset_s: int) -> datetime:
    try:
        return start.astimezone(timezone(timedelta(seconds=offset_s)))
    except (OverflowError, ValueError):
        # The year 0 there, or no clock at all.
        return start
