"""Filters of requests: a filter of the contracts as JSON, or the readable form of the command (`artist=Monet`)."""

import json
from typing import Any

from http_svc.json_bodies import into_message
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_client.filters import parse_filter

DESCRIPTION = (
    'Which images count: `artist=Monet`, `year>=1870`, `colour=["red", "blue"]`, `$caption=~old bridge`, or a '
    "lensmesh.search.v1.Filter as JSON. Given several times, all must hold."
)


def filter_of(given: list[str] | dict[str, Any] | str | None) -> search_pb2.Filter | None:
    """Return the message of a filter; None for none. Raises InvalidInput for what is none."""
    if not given:
        return None
    if isinstance(given, dict):
        return into_message(given, search_pb2.Filter(), field="filter")
    for text in [given] if isinstance(given, str) else given:
        if text.lstrip().startswith("{"):
            _check_depth(text)
    return parse_filter(given)


def _check_depth(text: str) -> None:
    try:
        json.loads(text)
    except RecursionError:
        raise InvalidInput(Reason.FILTER_INVALID, "filter nests too deeply: keep it flatter", field="filter") from None
    except ValueError as error:
        raise InvalidInput(Reason.FILTER_INVALID, f"filter is no JSON: {error}", field="filter") from None
