"""Translation of filters: from the contract's messages to the tree that stores compile."""

import math

from google.protobuf import struct_pb2

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.messages.structs import INEXACT, is_inexact
from lensmesh_chassis.reasons import Reason
from search_svc.filters import (
    OWN_FIELDS,
    TIME_FIELDS,
    All,
    Equals,
    Exists,
    FieldPath,
    Filter,
    Matches,
    Not,
    NumberRange,
    Scalar,
    Some,
    TimeRange,
    parse_path,
    tests,
)
from search_svc.times import parse_time
from search_svc.words.queries import MAX_WORDS_CHARS, read_words
from search_svc.words.texts import CAPTION

MAX_DEPTH = 8
MAX_LIST = 64
# Not the contract's: what a database plans in a reasonable time. Lists of values count once.
MAX_CONDITIONS = 1_024


def read_filter(message: search_pb2.Filter, field: str = "filter") -> Filter:
    """Read and check a filter.

    Raises:
        InvalidInput: FILTER_INVALID, naming the part that is wrong.
    """
    tree = _filter(message, field, 0)
    count = sum(1 for _ in tests(tree))
    if count > MAX_CONDITIONS:
        raise _invalid(field, f"has {count} conditions, and the limit is {MAX_CONDITIONS}: use one_of for many values")
    return tree


def _filter(message: search_pb2.Filter, field: str, depth: int) -> Filter:
    kind = message.WhichOneof("kind")
    if kind is None:
        raise _invalid(field, "has no kind: set condition, all, any or not")
    if kind == "condition":
        return _condition(message.condition, f"{field}.condition")
    if depth == MAX_DEPTH:
        raise _invalid(field, f"is nested more than {MAX_DEPTH} deep")
    if kind == "not":
        # `not` is a word of Python: the generated class has the field under no other name.
        return Not(_filter(getattr(message, "not"), f"{field}.not", depth + 1))
    part = message.all if kind == "all" else message.any
    if len(part.filters) > MAX_LIST:
        raise _invalid(f"{field}.{kind}.filters", f"has {len(part.filters)} filters, and the limit is {MAX_LIST}")
    inner = tuple(_filter(one, f"{field}.{kind}.filters[{i}]", depth + 1) for i, one in enumerate(part.filters))
    return All(inner) if kind == "all" else Some(inner)


def _condition(condition: search_pb2.Condition, field: str) -> Filter:
    try:
        path = parse_path(condition.field)
    except ValueError as error:
        raise _invalid(f"{field}.field", str(error)) from None
    match condition.WhichOneof("test"):
        case "equals":
            value = _scalar(condition.equals, f"{field}.equals")
            return _equals(path, (value,), f"{field}.equals")
        case "one_of":
            values = enumerate(condition.one_of.values)
            scalars = tuple(_scalar(value, f"{field}.one_of.values[{i}]") for i, value in values)
            return _equals(path, scalars, f"{field}.one_of")
        case "range":
            return _range(path, condition.range, f"{field}.range")
        case "exists":
            return Exists(path) if condition.exists else Not(Exists(path))
        case "matches":
            return _matches(path, condition.matches, f"{field}.matches")
        case _:
            raise _invalid(field, "has no test: set equals, one_of, range, exists or matches")


def _matches(path: FieldPath, text: str, field: str) -> Filter:
    if path[0] in OWN_FIELDS and path != CAPTION:
        raise _invalid(field, f"asks for words of {path[0]}: of an item's own fields only $caption has any")
    if "\x00" in text:
        raise _invalid(field, "contains a NUL character")
    if len(text) > MAX_WORDS_CHARS:
        raise _invalid(field, f"has {len(text)} characters, and the limit is {MAX_WORDS_CHARS}")
    try:
        return Matches(path, read_words(text), field)
    except ValueError as error:
        raise _invalid(field, str(error)) from None


def _equals(path: FieldPath, values: tuple[Scalar, ...], field: str) -> Filter:
    if path[0] in TIME_FIELDS:
        for value in values:
            if not isinstance(value, str) or parse_time(value) is None:
                raise _invalid(field, f"{path[0]} is compared with RFC 3339 times, such as 2026-01-31T12:00:00Z")
    return Equals(path, values)


def _scalar(value: struct_pb2.Value, field: str) -> Scalar:
    match value.WhichOneof("kind"):
        case "string_value":
            if "\x00" in value.string_value:
                raise _invalid(field, "contains a NUL character")
            return value.string_value
        case "number_value":
            if not math.isfinite(value.number_value):
                raise _invalid(field, f"is {value.number_value}: numbers are finite")
            if is_inexact(value.number_value):
                raise _invalid(field, f"is {value.number_value:.0f}: {INEXACT}")
            return value.number_value
        case "bool_value":
            return value.bool_value
        case _:
            raise _invalid(field, "is neither a string nor a number nor a bool (for null, use exists)")


def _range(path: FieldPath, message: search_pb2.Range, field: str) -> Filter:
    there = {descriptor.name: value for descriptor, value in message.ListFields()}
    bounds = {name: _scalar(value, f"{field}.{name}") for name, value in there.items()}
    if not bounds:
        # Open at both ends: everything that a range can hold.
        return Some((NumberRange(path), TimeRange(path)))
    numbers = {name: bound for name, bound in bounds.items() if isinstance(bound, float)}
    if len(numbers) == len(bounds):
        return NumberRange(path, **numbers)
    if numbers:
        raise _invalid(field, "mixes numbers and times")
    times = {}
    for name, bound in bounds.items():
        moment = parse_time(bound) if isinstance(bound, str) else None
        if moment is None:
            raise _invalid(f"{field}.{name}", "is neither a number nor an RFC 3339 time, such as 2026-01-31T12:00:00Z")
        times[name] = moment
    return TimeRange(path, **times)


def _invalid(field: str, description: str) -> InvalidInput:
    return InvalidInput(Reason.FILTER_INVALID, f"{field} {description}", field=field)
