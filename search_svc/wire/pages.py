"""Page tokens, and answers that fit into a message."""

import base64
import binascii
import hashlib

from google.protobuf.message import Message

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason

_CHECK_BYTES = 12
# Tag and length of one element of a list, at most; and what stands beside the list: a page token, counts.
_ELEMENT_BYTES = 8
_REST_BYTES = 2_048


def write_token(binding: str, position: str) -> str:
    """Return a token for the page behind `position`.

    It is good only for the same `binding`: what is listed, by which filter.
    """
    return base64.urlsafe_b64encode(_check(binding, position) + position.encode()).decode().rstrip("=")


def read_token(binding: str, token: str) -> str:
    """Return the position in a token; "" for an empty one.

    Raises:
        InvalidInput: PAGE_TOKEN_INVALID, no token of ours, or one of another list.
    """
    if not token:
        return ""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        check, position = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:].decode()
    except (binascii.Error, ValueError):
        check, position = b"", ""
    if check != _check(binding, position):
        raise InvalidInput(
            Reason.PAGE_TOKEN_INVALID,
            "page_token is not the next_page_token of this list with this filter: begin again without one",
            field="page_token",
        )
    return position


def _check(binding: str, position: str) -> bytes:
    return hashlib.sha256(f"{len(binding)}:{binding}{position}".encode()).digest()[:_CHECK_BYTES]


class Room:
    """Bytes that are left in a message while elements are added to it."""

    def __init__(self, max_message_bytes: int) -> None:
        self._all = max_message_bytes - _REST_BYTES
        self._left = self._all
        self._largest = 0

    def take(self, element: Message) -> bool:
        """Tell whether the element still fits, and count it."""
        return self.take_bytes(element.ByteSize())

    def take_bytes(self, size: int) -> bool:
        """Tell whether an element of so many bytes still fits, and count it."""
        self._left -= size + _ELEMENT_BYTES
        return self._left >= 0

    def measure(self, element: Message) -> int:
        """Note for `fits` the size of an element of a list that is returned as a whole. Return its bytes there."""
        size = element.ByteSize() + _ELEMENT_BYTES
        self._largest = max(self._largest, size)
        return size

    def fits(self, lists: int) -> int:
        """Return how many elements each of `lists` lists could have, all as large as the largest that was measured."""
        return max(0, self._all - 4 * _ELEMENT_BYTES * lists) // (lists * max(1, self._largest))


def too_large(field: str, fits: int, max_message_bytes: int, instead: str) -> InvalidInput:
    """Build the error for an answer that would not fit.

    `fits` is how many would fit, 0 if not even one does: then `instead` says what helps.
    """
    fix = f"{field} {fits} would fit" if fits else f"not even {field} 1 would fit: {instead}"
    return InvalidInput(
        Reason.RESPONSE_TOO_LARGE,
        f"the answer would exceed {max_message_bytes} bytes: {fix}",
        field=field,
        metadata={"fits": fits, "limit_bytes": max_message_bytes},
    )


def read_count(value: int, limit: int, default: int, field: str) -> int:
    """Read a limit or page size; 0 means the default.

    Raises:
        InvalidInput: LIMIT_OUT_OF_RANGE.
    """
    if value > limit:
        raise InvalidInput(
            Reason.LIMIT_OUT_OF_RANGE,
            f"{field} is {value}: use at most {limit}",
            field=field,
            metadata={"value": value, "limit": limit},
        )
    return value or min(default, limit)
