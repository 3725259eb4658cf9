"""Options of MatchImages, checked: what needs no service to be refused is refused here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.images.inputs import wants_bulk
from lensmesh_chassis.reasons import Reason
from router_svc.matching.verdicts import DEFAULT_MATCH, DEFAULT_UNSURE, Thresholds

MAX_ENTRY_FIELDS: Final = 4
MAX_CANDIDATES: Final = 100
DEFAULT_CANDIDATES: Final = 20
MAX_ALTERNATIVES: Final = 10
# Decimal digits that are the same in 32 and in 64 bits, of numbers up to 1.
_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class MatchOptions:
    """Everything that holds for all images of one call."""

    collection: str
    entry_fields: tuple[str, ...]
    filter: search_pb2.Filter | None
    candidates: int
    """Items that each kind of search brings for an image."""
    alternatives: int
    thresholds: Thresholds
    read: search_pb2.ReadOptions
    priority: common_pb2.Priority.ValueType


def read_options(request: router_pb2.MatchImagesRequest, collection: str) -> MatchOptions:
    """Read the options of a call for `collection`.

    Raises InvalidInput: QUERY_INVALID for entry fields, LIMIT_OUT_OF_RANGE for counts, OPTION_INVALID for thresholds
    and the priority.
    """
    _check_entry_fields(request.entry_fields)
    _check_count(request.candidates, MAX_CANDIDATES, "candidates")
    _check_count(request.alternatives, MAX_ALTERNATIVES, "alternatives")
    bulk = wants_bulk(request.priority, streamed=False, field="priority")
    return MatchOptions(
        collection=collection,
        entry_fields=tuple(request.entry_fields),
        filter=request.filter if request.HasField("filter") else None,
        candidates=request.candidates or DEFAULT_CANDIDATES,
        alternatives=request.alternatives,
        thresholds=_thresholds(request.thresholds),
        read=request.read,
        priority=common_pb2.PRIORITY_BULK if bulk else common_pb2.PRIORITY_INTERACTIVE,
    )


def _check_entry_fields(fields: Sequence[str]) -> None:
    """Refuse what makes no groups at once: the store would say it once for each image."""
    if len(fields) > MAX_ENTRY_FIELDS:
        raise _query_invalid("entry_fields", f"has {len(fields)} fields: name 0 to {MAX_ENTRY_FIELDS}")
    for place, field in enumerate(fields):
        if not field:
            raise _query_invalid(f"entry_fields[{place}]", "is empty: name a field of the metadata")
        if field in fields[:place]:
            raise _query_invalid(f"entry_fields[{place}]", f"is {field[:80]!r} again: name each field once")


def _check_count(value: int, most: int, field: str) -> None:
    if value > most:
        raise InvalidInput(
            Reason.LIMIT_OUT_OF_RANGE,
            f"{field} is {value}: use at most {most}",
            field=field,
            metadata={"value": value, "limit": most},
        )


def _thresholds(asked: router_pb2.MatchThresholds) -> Thresholds:
    match = asked.match if asked.HasField("match") else DEFAULT_MATCH
    unsure = asked.unsure if asked.HasField("unsure") else min(DEFAULT_UNSURE, match)
    for name, value in (("match", match), ("unsure", unsure)):
        # NaN is in no range.
        if not 0 <= value <= 1:
            raise _threshold_invalid(name, f"is {value:g}: use 0 to 1")
    if unsure > match:
        told = "" if asked.HasField("match") else ", its default"
        raise _threshold_invalid("unsure", f"is {unsure:g}, above thresholds.match, {match:g}{told}: use that at most")
    # In 32 bits 0.6 is a little more than 0.6, which a confidence of 0.6 would not reach.
    return Thresholds(round(match, _DIGITS), round(unsure, _DIGITS))


def _threshold_invalid(name: str, description: str) -> InvalidInput:
    field = f"thresholds.{name}"
    return InvalidInput(Reason.OPTION_INVALID, f"{field} {description}", field=field)


def _query_invalid(field: str, description: str) -> InvalidInput:
    return InvalidInput(Reason.QUERY_INVALID, f"{field} {description}", field=field)
