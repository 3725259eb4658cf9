"""Limits that every service advertises in GetInfo and enforces with typed errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason

if TYPE_CHECKING:
    from google.protobuf.message import Message

DEFAULT_MAX_MESSAGE_BYTES = 32 * 1024 * 1024


def transport_bytes(max_message_bytes: int) -> int:
    """What gRPC itself lets pass: a quarter more, so that a message a little too large gets an answer that says so."""
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


def check_message(message: Message, max_bytes: int, field: str = "") -> None:
    """Refuse a message of more than `max_bytes`. Raises InvalidInput with reason MESSAGE_TOO_LARGE."""
    size = message.ByteSize()
    if size > max_bytes:
        raise InvalidInput(
            Reason.MESSAGE_TOO_LARGE,
            f"{field or 'the message'} has {size} bytes and the limit is {max_bytes}: send fewer or smaller items in "
            "one message",
            field=field,
            metadata={"size_bytes": size, "limit_bytes": max_bytes},
        )
