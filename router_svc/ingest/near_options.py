"""NearDuplicateOptions, checked: what becomes of an image that looks the same as one of another item."""

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason

MAX_DISTANCE: Final = 31
"""Most bits in which two hashes of one image differ (PDQ's own advice), and the most that stores look for."""
DEFAULT_FIELD: Final = "near_duplicate_of"
_FIELD: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class NearPolicy(Enum):
    """Treatment of a near-duplicate."""

    STORE = auto()
    MARK = auto()
    SKIP = auto()


@dataclass(frozen=True, slots=True)
class NearOptions:
    """Options of a call or a stream for near-duplicates. `field` is of the metadata, and MARK's alone."""

    action: NearPolicy
    max_distance: int
    field: str


_ACTIONS: Final = {
    router_pb2.NEAR_DUPLICATE_ACTION_UNSPECIFIED: NearPolicy.STORE,
    router_pb2.NEAR_DUPLICATE_ACTION_STORE: NearPolicy.STORE,
    router_pb2.NEAR_DUPLICATE_ACTION_MARK: NearPolicy.MARK,
    router_pb2.NEAR_DUPLICATE_ACTION_SKIP: NearPolicy.SKIP,
}


def read_near_options(options: router_pb2.IngestOptions) -> NearOptions | None:
    """Return what is asked for; None where nothing is. Raises InvalidInput with reason OPTION_INVALID."""
    if not options.HasField("near_duplicates"):
        return None
    asked = options.near_duplicates
    action = _ACTIONS.get(asked.action)
    if action is None:
        raise _invalid("action", f"is {asked.action}: use one of NearDuplicateAction's values or leave it out")
    if asked.max_distance > MAX_DISTANCE:
        raise _invalid("max_distance", f"is {asked.max_distance}: use 0 to {MAX_DISTANCE}")
    if asked.field and action is not NearPolicy.MARK:
        raise _invalid("field", "is what MARK writes: leave it out with another action")
    if asked.field and not _FIELD.fullmatch(asked.field):
        raise _invalid("field", f'is {asked.field[:80]!r}: use 1 to 64 letters, digits, "_" and "-"')
    field = asked.field or DEFAULT_FIELD
    tags = (options.tags.field or "tags") if options.HasField("tags") else ""
    if tags and action is NearPolicy.MARK and field in (tags, f"{tags}_probability", f"{tags}_digest"):
        raise _invalid("field", f"is {field!r}, which options.tags writes: set one of them to another name")
    distance = asked.max_distance if asked.HasField("max_distance") else MAX_DISTANCE
    return NearOptions(action, distance, field)


def _invalid(name: str, description: str) -> InvalidInput:
    field = f"options.near_duplicates.{name}"
    return InvalidInput(Reason.OPTION_INVALID, f"{field} {description}", field=field)
