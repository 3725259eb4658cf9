"""Errors of the store's searches, as errors of the request that they were made for."""

import re
from typing import Any

from lensmesh_chassis.errors import InvalidInput, LensmeshError, NotFound, PreconditionFailed, UpstreamFault, Violation
from lensmesh_chassis.reasons import Reason

_SEARCH = re.compile(r"(?<![\w.])searches\[\d+\]\.")
# What the caller gave, by its name in the store's request; at the beginning of a field or of a word.
_NAMES = (
    (re.compile(r"(?<![\w.])group_by\.fields\b"), "entry_fields"),
    (re.compile(r"(?<![\w.])limit\b(?= is )"), "candidates"),
    (re.compile(r"^limit$"), "candidates"),
    (re.compile(r"(?<![\w.])legs\[\d+\]\.space\b"), "space"),
)


def of_the_request(error: LensmeshError) -> LensmeshError:
    """Return the store's error with the paths of the caller's request."""
    keywords: dict[str, Any] = {
        "violations": [
            Violation(_led_back(violation.field), _led_back(violation.description)) for violation in error.violations
        ],
        "retry_after_s": error.retry_after_s,
        "metadata": {key: _led_back(value) for key, value in error.metadata.items()},
    }
    if isinstance(error, UpstreamFault):
        keywords["code"] = error.code
    return type(error)(error.reason, _led_back(error.message), **keywords)


def is_of_the_request(error: Exception | None) -> bool:
    """Tell whether an error of one image's search is the request's own, and so every image's."""
    return isinstance(error, InvalidInput | NotFound | PreconditionFailed)


def is_outdated(error: LensmeshError) -> bool:
    """Tell whether the collection was made anew since its definition was read."""
    return error.reason in (Reason.SPACE_MISMATCH, Reason.SPACE_UNKNOWN, Reason.COLLECTION_NOT_FOUND)


def _led_back(text: str) -> str:
    text = _SEARCH.sub("", text)
    for pattern, name in _NAMES:
        text = pattern.sub(name, text)
    return text
