"""Limits that every service advertises in GetInfo and enforces with typed errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason

DEFAULT_MAX_MESSAGE_BYTES = 32 * 1024 * 1024
# Of all filters of a call. A service may allow fewer.
MAX_FILTER_VALUES = 10_000
# Of one search: its legs, or the queries that become them.
MAX_LEGS = 8
MAX_LEG_NAME_BYTES = 256
MAX_LEG_WEIGHT = 1_000_000.0


def transport_bytes(max_message_bytes: int) -> int:
    """Return the message size that gRPC itself lets pass: a quarter more than `max_message_bytes`.

    So a message that is a little too large gets an answer that says so.
    """
    return max_message_bytes + max_message_bytes // 4


def check_items(count: int, limit: int, field: str) -> None:
    """Refuse an empty or an overlong list. Raises InvalidInput with reason NO_ITEMS or TOO_MANY_ITEMS."""
    if count == 0:
        raise InvalidInput(
            Reason.NO_ITEMS, f"{field} is empty: send 1 to {limit} items", field=field, metadata={"limit": limit}
        )
    if count > limit:
        raise InvalidInput(
            Reason.TOO_MANY_ITEMS,
            f"{field} has {count} items and the limit is {limit}: split the call",
            field=field,
            metadata={"count": count, "limit": limit},
        )


def check_size(size: int, max_bytes: int, field: str = "") -> None:
    """Refuse a message of `size` bytes that is larger than `max_bytes`. Raises InvalidInput (MESSAGE_TOO_LARGE).

    `size` is that of the bytes as they came: ByteSize() of a message would serialize all of it.
    """
    if size > max_bytes:
        raise InvalidInput(
            Reason.MESSAGE_TOO_LARGE,
            f"{field or 'the message'} has {size} bytes and the limit is {max_bytes}: send fewer or smaller items in "
            "one message",
            field=field,
            metadata={"size_bytes": size, "limit_bytes": max_bytes},
        )


def check_no_nul(text: str, field: str) -> None:
    """Refuse a text with a NUL character, which no store and no metadata keeps. Raises InvalidInput (TEXT_INVALID)."""
    if "\x00" in text:
        raise InvalidInput(Reason.TEXT_INVALID, f"{field} contains a NUL character: remove it", field=field)


def check_filters(filters: Mapping[str, Any], max_values: int = MAX_FILTER_VALUES) -> None:
    """Refuse filters that have more than `max_values` values together. Takes little time, however many they are.

    `filters` holds each one under its dotted path in the request. Raises InvalidInput with reason FILTER_INVALID.
    Whatever else may be wrong with a filter is found by the code that translates it.
    """
    values = parts = 0
    for field, top in filters.items():
        waiting = [top]
        while waiting:
            one = waiting.pop()
            match one.WhichOneof("kind"):
                case "condition":
                    condition = one.condition
                    values += len(condition.one_of.values) if condition.HasField("one_of") else 1
                case "all" | "any" as kind:
                    inner = getattr(one, kind).filters
                    parts += len(inner)
                    if parts <= max_values:
                        waiting.extend(inner)
                case "not":
                    waiting.append(getattr(one, "not"))
            if values > max_values or parts > max_values:
                told = f"{values} values" if values > max_values else f"{parts} filters"
                raise InvalidInput(
                    Reason.FILTER_INVALID,
                    f"{field} has {told} or more, and the limit of all filters of a call together is {max_values}"
                    " (max_filter_values): split the call",
                    field=field,
                    metadata={"limit": max_values},
                )


def check_legs(legs: Sequence[Any], field: str) -> None:
    """Refuse legs of one search, or the queries that become them, that no service could fuse.

    There are 1 to 8, each with a name of its own and a weight from -1,000,000 to 1,000,000; not all are below 0.
    `field` is the dotted path of the list. Raises InvalidInput with reason QUERY_INVALID.
    """
    if not 1 <= len(legs) <= MAX_LEGS:
        raise InvalidInput(
            Reason.QUERY_INVALID,
            f"{field} has {len(legs)} entries: send 1 to {MAX_LEGS}",
            field=field,
            metadata={"count": len(legs), "limit": MAX_LEGS},
        )
    first: dict[str, int] = {}
    for place, leg in enumerate(legs):
        path = f"{field}[{place}]"
        size = len(leg.name.encode())
        if size > MAX_LEG_NAME_BYTES:
            raise _bad_leg(f"{path}.name", f"has {size} bytes, and the limit is {MAX_LEG_NAME_BYTES}: shorten it")
        if first.setdefault(leg.name, place) != place:
            also = f"is {leg.name[:80]!r}, as is" if leg.name else "is empty, as is"
            named = f"{field}[{first[leg.name]}].name"
            raise _bad_leg(f"{path}.name", f"{also} {named}: give each a name of its own")
        if not abs(leg.weight) <= MAX_LEG_WEIGHT:
            most = f"{MAX_LEG_WEIGHT:,.0f}"
            raise _bad_leg(f"{path}.weight", f"is {leg.weight:g}: use -{most} to {most}, or 0 for 1")
    if all(leg.weight < 0 for leg in legs):
        raise _bad_leg(
            f"{field}[0].weight",
            "is below 0, as every weight here: such an entry only pushes away what others find; send one above 0",
        )


def _bad_leg(field: str, description: str) -> InvalidInput:
    return InvalidInput(Reason.QUERY_INVALID, f"{field} {description}", field=field)
