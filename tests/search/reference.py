"""Aggregations in plain Python: the reference that every store is compared with. It knows no module of the stores."""

from collections import Counter
from datetime import datetime, timedelta, tzinfo
from fractions import Fraction
from typing import Any

from search_svc.model import Facet, FacetCount, FieldType
from search_svc.times import parse_time

# Of one interval.
_MONTHS = {"month": 1, "quarter": 3, "year": 12}


def elements(value: Any, field_type: FieldType) -> set[Any]:
    """The values of one field that count: those of the type, each once."""
    found = set()
    for each in value if isinstance(value, list) else [value]:
        if field_type is FieldType.BOOL:
            fits = isinstance(each, bool)
        elif field_type is FieldType.NUMBER:
            fits = isinstance(each, int | float) and not isinstance(each, bool)
        else:
            fits = isinstance(each, str) and (field_type is not FieldType.TIME or parse_time(each) is not None)
        if fits:
            # Python takes True for 1, and there is one type of values in a set.
            found.add(each)
    return found


def field_of(metadata: Any, path: tuple[str, ...]) -> Any:
    """What lies at a path; None where nothing does."""
    for level in path:
        if not isinstance(metadata, dict) or level not in metadata:
            return None
        metadata = metadata[level]
    return metadata


def counts_by_time(moments: list[set[datetime]], interval: str, zone: tzinfo) -> list[tuple[datetime, int]]:
    """First instants and counts; each set is the times of an item."""
    counts: Counter[datetime] = Counter()
    for times in moments:
        counts.update({first_instant(moment, interval, zone) for moment in times})
    return sorted(counts.items())


def first_instant(moment: datetime, interval: str, zone: tzinfo) -> datetime:
    """The latest instant at which an interval begins, of those until `moment`. Only years well inside the calendar."""
    local = moment.astimezone(zone)
    if interval == "hour":
        return moment - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if interval == "week":
        midnight -= timedelta(days=midnight.weekday())
    elif interval != "day":
        midnight = midnight.replace(day=1, month=midnight.month - (midnight.month - 1) % _MONTHS[interval])
    return midnight.astimezone(moment.tzinfo)


def numbers(values: list[set[Any]]) -> tuple[int, float, float, float, float]:
    """Count, least, greatest, mean and sum. Each decimal number is what it is written as."""
    every = [Fraction(repr(float(number) + 0.0)) for of_item in values for number in of_item]
    if not every:
        return 0, 0.0, 0.0, 0.0, 0.0
    total = sum(every, Fraction())
    return len(every), float(min(every)), float(max(every)), _double(total / len(every)), _double(total)


def counted(value: Any, count: int) -> FacetCount:
    """How often a value occurs: all numbers are doubles."""
    return FacetCount(value if isinstance(value, bool | str) else float(value) + 0.0, count)


def facet(path: tuple[str, ...], values: list[set[Any]], limit: int) -> Facet:
    """The most frequent values, equal counts by value, and how many items have none of these."""
    counts = Counter(value for of_item in values for value in of_item)

    def order(value: Any) -> Any:
        if isinstance(value, bool):
            return str(value)
        return value.encode() if isinstance(value, str) else value

    listed = sorted(counts, key=lambda value: (-counts[value], order(value)))[:limit]
    others = sum(not of_item & set(listed) for of_item in values)
    return Facet(path, tuple(counted(value, counts[value]) for value in listed), others)


def _double(number: Fraction) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")
