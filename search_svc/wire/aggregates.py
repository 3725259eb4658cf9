"""Translation of aggregations between the contract and the domain."""

from collections.abc import Sequence

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from search_svc.aggregates import (
    CONTENT_DIGEST,
    Aggregate,
    AggregatedItems,
    Aggregation,
    CountsByTime,
    DistinctCount,
    NumberStats,
    NumberSummary,
    ValueCounts,
)
from search_svc.filters import TIME_FIELDS
from search_svc.model import Definition, Facet, FieldIndex, FieldType
from search_svc.time_buckets import TimeInterval, parse_zone
from search_svc.wire.collections import write_time
from search_svc.wire.facets import FACET_VALUES, find_index, write_facet
from search_svc.wire.pages import Room, read_count, too_large

_MAX_AGGREGATIONS = 16
_MAX_NAME_CHARS = 63
# Numbers of the contract; 0 is unspecified.
_INTERVALS = dict(enumerate(TimeInterval, search_pb2.TIME_INTERVAL_HOUR))
_TYPES = {FieldType.NUMBER: "FIELD_TYPE_NUMBER", FieldType.TIME: "FIELD_TYPE_TIME"}


def read_aggregations(
    messages: Sequence[search_pb2.Aggregation], definition: Definition, max_page_size: int
) -> list[Aggregation]:
    """Read and check aggregations.

    Raises:
        InvalidInput: QUERY_INVALID, OPTION_INVALID or LIMIT_OUT_OF_RANGE, naming the part that is wrong.
        PreconditionFailed: FIELD_NOT_INDEXED.
    """
    if not 1 <= len(messages) <= _MAX_AGGREGATIONS:
        raise _invalid("aggregations", f"has {len(messages)} elements: send 1 to {_MAX_AGGREGATIONS}")
    first: dict[str, int] = {}
    asked = []
    for i, message in enumerate(messages):
        field = f"aggregations[{i}]"
        if not 1 <= len(message.name) <= _MAX_NAME_CHARS:
            raise _invalid(f"{field}.name", f"has {len(message.name)} characters: use 1 to {_MAX_NAME_CHARS}")
        if first.setdefault(message.name, i) != i:
            raise _invalid(f"{field}.name", f"is also the name of aggregations[{first[message.name]}]")
        asked.append(_read(message, field, definition, max_page_size))
    return asked


def _read(message: search_pb2.Aggregation, field: str, definition: Definition, max_page_size: int) -> Aggregation:
    match message.WhichOneof("kind"):
        case "counts_by_time":
            return _counts_by_time(message, f"{field}.counts_by_time", definition)
        case "distinct_count":
            if message.distinct_count.field == CONTENT_DIGEST.name:
                return DistinctCount(message.name, CONTENT_DIGEST)
            index = _index(message.distinct_count.field, f"{field}.distinct_count.field", definition)
            return DistinctCount(message.name, index)
        case "number_stats":
            index = _index(message.number_stats.field, f"{field}.number_stats.field", definition, FieldType.NUMBER)
            return NumberStats(message.name, index.path)
        case "value_counts":
            index = _index(message.value_counts.field, f"{field}.value_counts.field", definition)
            limit = read_count(message.value_counts.limit, max_page_size, FACET_VALUES, f"{field}.value_counts.limit")
            return ValueCounts(message.name, index, limit)
        case _:
            raise _invalid(field, "has no kind: set counts_by_time, distinct_count, number_stats or value_counts")


def _counts_by_time(message: search_pb2.Aggregation, field: str, definition: Definition) -> CountsByTime:
    asked = message.counts_by_time
    interval = _INTERVALS.get(asked.interval)
    if interval is None:
        known = ", ".join(each.name for each in TimeInterval)
        raise InvalidInput(
            Reason.OPTION_INVALID, f"{field}.interval is {asked.interval}: use {known}", field=f"{field}.interval"
        )
    try:
        zone = parse_zone(asked.time_zone)
    except ValueError as error:
        raise InvalidInput(Reason.OPTION_INVALID, f"{field}.time_zone {error}", field=f"{field}.time_zone") from None
    if asked.field in TIME_FIELDS:
        return CountsByTime(message.name, (asked.field,), interval, zone)
    path = _index(asked.field, f"{field}.field", definition, FieldType.TIME).path
    return CountsByTime(message.name, path, interval, zone)


def _index(text: str, field: str, definition: Definition, needed: FieldType | None = None) -> FieldIndex:
    return find_index(text, field, definition, None if needed is None else (needed, _TYPES[needed]))


def answer_items(asked: Sequence[Aggregation]) -> int:
    """Return how many items the answer is worth at most. A value may be as large as one, 10,000 buckets are like 20."""
    return sum(each.limit if isinstance(each, ValueCounts) else 20 for each in asked)


def work_bytes(found: AggregatedItems) -> int:
    """Return about how many bytes of work it is to write these results."""
    outcomes = [result.outcome for result in found.results if result is not None]
    return 64 * sum(len(each) if isinstance(each, tuple) else 20 for each in outcomes)


def write_aggregates(
    found: AggregatedItems, asked: Sequence[Aggregation], max_message_bytes: int
) -> search_pb2.AggregateResponse:
    """Build the answer to Aggregate. A result of None means that the store stopped for the size of others.

    Raises:
        InvalidInput: RESPONSE_TOO_LARGE.
    """
    response = search_pb2.AggregateResponse(item_count=found.item_count)
    room = Room(max_message_bytes)
    fits = None not in found.results
    for each, result in zip(asked, found.results, strict=True):
        if result is None:
            continue
        message = response.results.add(name=each.name, item_count=result.item_count)
        _write(result, message, room)
        fits = room.take(message) and fits
    if not fits:
        lists = sum(isinstance(each, ValueCounts) for each in asked)
        raise too_large("value_counts.limit", room.fits(max(1, lists)), max_message_bytes, "ask for fewer aggregations")
    return response


def _write(result: Aggregate, message: search_pb2.AggregationResult, room: Room) -> None:
    match result.outcome:
        case int(count):
            message.distinct_count = count
        case NumberSummary() as numbers:
            message.number_stats.CopyFrom(
                search_pb2.NumberSummary(
                    value_count=numbers.value_count,
                    min=numbers.min,
                    max=numbers.max,
                    mean=numbers.mean,
                    sum=numbers.sum,
                )
            )
        case Facet() as facet:
            message.value_counts.SetInParent()
            write_facet(facet, message.value_counts, room)
        case buckets:
            message.counts_by_time.SetInParent()
            for bucket in buckets:
                told = message.counts_by_time.buckets.add(utc_offset_s=bucket.utc_offset_s, count=bucket.count)
                write_time(bucket.start, told.start)


def _invalid(field: str, description: str) -> InvalidInput:
    return InvalidInput(Reason.QUERY_INVALID, f"{field} {description}", field=field)
