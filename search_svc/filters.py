"""Filters as a tree of values, which each store compiles into its own language."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from search_svc.words.queries import WordQuery

Scalar: TypeAlias = str | float | bool
# An own field begins with "$" and stands alone; anything else is a path into the metadata.
FieldPath: TypeAlias = tuple[str, ...]

OWN_FIELDS = ("$id", "$create_time", "$update_time", "$caption", "$content_digest", "$low_content")
TIME_FIELDS = ("$create_time", "$update_time")
MAX_PATH_LEVELS = 32
MAX_PATH_BYTES = 1024


@dataclass(frozen=True)
class Equals:
    """The field, or one element of it, is one of these values: same type, same value. No values: nothing passes."""

    path: FieldPath
    values: tuple[Scalar, ...]


@dataclass(frozen=True)
class NumberRange:
    """The field, or one element of it, is a number in this interval; None is open."""

    path: FieldPath
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None


@dataclass(frozen=True)
class TimeRange:
    """The field, or one element of it, is an RFC 3339 time in this interval; None is open."""

    path: FieldPath
    at_least: datetime | None = None
    above: datetime | None = None
    at_most: datetime | None = None
    below: datetime | None = None


@dataclass(frozen=True)
class Exists:
    """The field exists and is not null."""

    path: FieldPath


@dataclass(frozen=True)
class Matches:
    """The text of the field holds all of these words, in any order. `field` is where the test stands in the request."""

    path: FieldPath
    query: WordQuery
    field: str = "filter"


@dataclass(frozen=True)
class All:
    """All of these filters pass; true where there are none."""

    filters: tuple["Filter", ...]


@dataclass(frozen=True)
class Some:
    """At least one of these filters passes; false where there are none."""

    filters: tuple["Filter", ...]


@dataclass(frozen=True)
class Not:
    """This filter does not pass."""

    filter: "Filter"


Test: TypeAlias = Equals | NumberRange | TimeRange | Exists | Matches
Filter: TypeAlias = Test | All | Some | Not


def tests(tree: Filter) -> Iterator[Test]:
    """Yield every test in a tree."""
    match tree:
        case All(inner) | Some(inner):
            for one in inner:
                yield from tests(one)
        case Not(one):
            yield from tests(one)
        case _:
            yield tree


def parse_path(text: str) -> FieldPath:
    """Read a path into the metadata, or to a field of the item's own.

    Raises:
        ValueError: with a message for the caller.
    """
    if text.startswith("$"):
        if text not in OWN_FIELDS:
            raise ValueError(f"is none of an item's own fields ({', '.join(OWN_FIELDS)}), and no path begins with $")
        return (text,)
    return parse_metadata_path(text)


def parse_metadata_path(text: str) -> FieldPath:
    """Read a path into the metadata, dots between levels.

    Raises:
        ValueError: with a message for the caller.
    """
    if not text:
        raise ValueError("is empty: name a metadata path such as camera.iso")
    if text.startswith("$"):
        raise ValueError("begins with $, as only an item's own fields do: name a metadata path such as camera.iso")
    levels = tuple(text.split("."))
    if not all(levels):
        raise ValueError("has an empty level: write one dot between two levels")
    if "\x00" in text:
        raise ValueError("contains a NUL character")
    if len(levels) > MAX_PATH_LEVELS or len(text.encode()) > MAX_PATH_BYTES:
        raise ValueError(f"is longer than {MAX_PATH_LEVELS} levels or {MAX_PATH_BYTES} bytes")
    return levels
