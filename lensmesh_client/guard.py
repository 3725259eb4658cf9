"""Nothing but LensmeshErrors leaves the client, and what a caller gives is checked before a message is made of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from numbers import Real
from typing import TypeVar

from google.protobuf.message import DecodeError

from lensmesh_chassis.errors import InvalidInput, LensmeshError, UpstreamFault
from lensmesh_chassis.reasons import Reason

R = TypeVar("R")

# Thirty years. gRPC takes a later deadline for one that has passed.
LONGEST_S = 1e9


def check_text(text: object, field: str, reason: Reason = Reason.TEXT_INVALID) -> str:
    """Return `text` if it is a string that UTF-8 can carry. Raises InvalidInput with `reason` otherwise."""
    if not isinstance(text, str):
        raise InvalidInput(reason, f"{field} is a {type(text).__name__}: give text", field=field)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            reason,
            f"{field} holds text that is not Unicode (a lone surrogate, as in file names that are not UTF-8): "
            "write it another way",
            field=field,
        ) from error
    return text


def check_seconds(value: object, field: str) -> float | None:
    """Return a number of seconds, None for more than any clock holds: as good as no limit. Raises InvalidInput."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value):
        raise InvalidInput(Reason.OPTION_INVALID, f"{field} is {value!r:.40}: give seconds, or None", field=field)
    seconds = float(value)
    return seconds if seconds <= LONGEST_S else None


@contextmanager
def building(what: str) -> Iterator[None]:
    """Turn what protobuf raises for values of a wrong type or range into InvalidInput that names the message."""
    try:
        yield
    except LensmeshError:
        raise
    except UnicodeEncodeError as error:
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"{what} holds text that is not Unicode (a lone surrogate): write it another way",
            field=what,
        ) from error
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise InvalidInput(
            Reason.OPTION_INVALID, f"{what} cannot be made of these arguments: {_clean(error)}", field=what
        ) from error


async def answered(answer: Awaitable[R]) -> R:
    """Await gRPC's answer. Raises UpstreamFault where its bytes are no message of the contract.

    gRPC tells that in three ways: None, the parser's own error, and a cancellation that nobody asked for.
    """
    try:
        message = await answer
    except DecodeError as error:
        raise unreadable() from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise unreadable() from error
    if message is None:
        raise unreadable()
    return message


def unreadable() -> UpstreamFault:
    """Make the error for an answer that cannot be parsed."""
    return UpstreamFault(
        Reason.MESSAGE_MALFORMED,
        "the answer cannot be read: it is no message of this client's contract, or nested deeper than protobuf reads. "
        "Ask for less of it (another item, a view without metadata), or update the client",
        code=13,
    )


def _clean(error: Exception) -> str:
    return str(error).encode("utf-8", "replace").decode()[:300]
