"""Readable filters: `artist=Monet`, `year>=1870`, `colour=["red", "blue"]`, or a contract's Filter as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NoReturn, TypeAlias

from google.protobuf import json_format, struct_pb2

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_client.guard import check_text

FilterLike: TypeAlias = "search_pb2.Filter | str | Sequence[str]"

# A field is a metadata path, or one of an item's own ("$id").
CONDITION = re.compile(r"^\s*(?P<field>[^\s=<>!{}]+)\s*(?P<test>=~|!=|>=|<=|=|>|<)\s*(?P<value>.*?)\s*$", re.DOTALL)
BOUNDS = {">=": "at_least", ">": "above", "<=": "at_most", "<": "below"}
# What begins with these is no value but the rest of a comparison that other languages know.
COMPARISON = re.compile(r"[=<>!~]+")
MEANT = {"==": "=", "===": "=", "=>": ">=", "=<": "<=", "<>": "!=", "=!": "!=", "!==": "!=", ">>": ">", "<<": "<"}
# What protobuf's reader of JSON raises: its own, and for numbers without end and text that is not Unicode Python's.
UNREADABLE = (json_format.ParseError, ValueError, OverflowError, TypeError, RecursionError)
FORMS = (
    'key=value, key!=value, key>=3, key>3, key<=3, key<3, key=["a", "b"], key=* (is there), key=~words (holds them), '
    "or a Filter as JSON"
)


def parse_filter(filters: FilterLike) -> search_pb2.Filter:
    """Make one filter that says what all of `filters` say.

    A value is read as JSON where it is JSON (3, true, "3", ["a", "b"]) and as a string otherwise; a list means one of
    its elements; `*` means that the field is there. `$caption=~old bridge` means that its text holds these words, as
    `Query.words` are read. Raises InvalidInput with reason FILTER_INVALID.
    """
    if isinstance(filters, search_pb2.Filter):
        return filters
    texts = [filters] if isinstance(filters, str) else list(filters)
    parsed = [_parse(text) for text in texts]
    if len(parsed) == 1:
        return parsed[0]
    return search_pb2.Filter(all=search_pb2.FilterList(filters=parsed))


def _parse(text: str) -> search_pb2.Filter:
    check_text(text, "filter", Reason.FILTER_INVALID)
    if text.lstrip().startswith("{"):
        try:
            return json_format.Parse(text, search_pb2.Filter())
        except UNREADABLE as error:
            raise _invalid(text, str(error)) from error
    match = CONDITION.match(text)
    if match is None:
        raise _invalid(text, "it has no key, comparison and value")
    field, test, word = match["field"], match["test"], match["value"]
    if doubled := COMPARISON.match(word):
        written = test + doubled[0]
        rest = word[doubled.end() :].strip()
        if written in BOUNDS:
            raise _invalid(text, f"write {field}{written}{rest}: no space belongs into the comparison")
        meant = MEANT.get(written)
        right = f"write {field}{meant}{rest}" if meant else "there is no such comparison"
        raise _invalid(
            text, f'{written} is not known: {right}; a value that begins so goes in quotes: {field}{test}"…"'
        )
    if test == "=~":
        # As they are: quotation marks and a star mean something among words.
        return _condition(search_pb2.Condition(field=field, matches=word))
    if word == "*":
        if test not in {"=", "!="}:
            raise _invalid(text, "* goes with = and != only")
        return _condition(search_pb2.Condition(field=field, exists=test == "="))
    value = _value(text, word)
    if test in BOUNDS:
        if value.WhichOneof("kind") not in {"number_value", "string_value"}:
            raise _invalid(text, "only numbers and times have an order")
        return _condition(
            search_pb2.Condition(
                field=field,
                range=search_pb2.Range(
                    at_least=value if test == ">=" else None,
                    above=value if test == ">" else None,
                    at_most=value if test == "<=" else None,
                    below=value if test == "<" else None,
                ),
            )
        )
    if value.WhichOneof("kind") == "list_value":
        equal = _condition(search_pb2.Condition(field=field, one_of=value.list_value))
    else:
        equal = _condition(search_pb2.Condition(field=field, equals=value))
    if test == "=":
        return equal
    negated = search_pb2.Filter()
    # `not` is a keyword, so the field has no attribute syntax.
    getattr(negated, "not").CopyFrom(equal)
    return negated


def _condition(condition: search_pb2.Condition) -> search_pb2.Filter:
    return search_pb2.Filter(condition=condition)


def _value(text: str, word: str) -> struct_pb2.Value:
    try:
        # NaN and Infinity are words: JSON has no such numbers.
        read = json.loads(word, parse_constant=_no_number)
    except (ValueError, RecursionError):
        if word[:1] in {"[", "{", '"'}:
            raise _invalid(
                text, "its value begins as JSON does and is none; text that begins so goes in quotes, as JSON"
            ) from None
        read = word
    if isinstance(read, dict) or read is None:
        raise _invalid(text, "a value is a string, a number, true, false or a list of them")
    value = struct_pb2.Value()
    try:
        json_format.ParseDict(read, value)
    except UNREADABLE as error:
        raise _invalid(text, f"its value cannot be sent ({error})") from error
    return value


def _no_number(word: str) -> NoReturn:
    raise ValueError(word)


def _invalid(text: str, why: str) -> InvalidInput:
    return InvalidInput(Reason.FILTER_INVALID, f"filter {text!r}: {why}; use {FORMS}", field="filter")
