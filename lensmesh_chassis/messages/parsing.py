"""Parsing of messages: a large one piece by piece in a thread, so that no parse holds the event loop for long."""

import asyncio
from typing import Any

from google.protobuf.message import DecodeError, Message

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason

# protobuf parses with Python's lock held: a message of small values takes some ten milliseconds for each MiB.
INLINE_BYTES = 1024 * 1024
PIECE_BYTES = 256 * 1024
_CAUSES = {
    "MaxDepth": "it nests deeper than protobuf reads: send flatter metadata and filters",
    "UTF-8": "one of its strings is not UTF-8: send text as UTF-8, and other bytes in a bytes field",
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


async def parse_message(cls: Any, data: bytes) -> Any:
    """Parse a request, a large one beside the event loop.

    Raises:
        InvalidInput: MESSAGE_MALFORMED, naming the message and the cause.
    """
    try:
        if len(data) <= INLINE_BYTES:
            return cls.FromString(data)
        return await asyncio.to_thread(parse_in_pieces, cls, data)
    except DecodeError as error:
        raise malformed(cls.DESCRIPTOR.full_name, str(error)) from None


def malformed(message: str, cause: str) -> InvalidInput:
    """Build the error for bytes that are no such message, with what protobuf says of them."""
    why = next(
        (text for word, text in _CAUSES.items() if word in cause),
        "they break off or are of another message: generate the stubs from protos/ again",
    )
    return InvalidInput(Reason.MESSAGE_MALFORMED, f"the bytes are no {message}: {why}", metadata={"message": message})


def parse_in_pieces(cls: Any, data: bytes) -> Any:
    """Parse as `cls.FromString` does, in steps of about PIECE_BYTES between which other threads run.

    Merging the pieces of a message gives the same as parsing all of it: protobuf's encoding promises that.
    """
    message = cls()
    _merge(message, memoryview(data))
    return message


def _merge(message: Message, data: memoryview) -> None:
    fields = message.DESCRIPTOR.fields_by_number
    begin = at = 0
    while at < len(data):
        start = at
        tag, at = _varint(data, at)
        content = at
        match tag & 7:
            case wire if wire == _BYTES:
                length, content = _varint(data, at)
                at = content + length
            case wire if wire == _VARINT:
                _, at = _varint(data, at)
            case wire if wire == _FIXED64:
                at += 8
            case wire if wire == _FIXED32:
                at += 4
            case _:
                raise DecodeError("groups are of no message")
        if at > len(data):
            raise DecodeError("the message breaks off")
        field: Any = fields.get(tag >> 3)
        if at - content > PIECE_BYTES and tag & 7 == _BYTES and _is_message(field):
            message.MergeFromString(bytes(data[begin:start]))
            inner: Any = getattr(message, field.name)
            if field.is_repeated:
                inner = inner.add()
            else:
                inner.SetInParent()
            _merge(inner, data[content:at])
            begin = at
        elif at - begin > PIECE_BYTES:
            message.MergeFromString(bytes(data[begin:at]))
            begin = at
    message.MergeFromString(bytes(data[begin:]))


def _is_message(field: Any) -> bool:
    """Tell whether a field holds messages into which more can be merged; entries of a map cannot be reached."""
    return field is not None and field.message_type is not None and not field.message_type.GetOptions().map_entry


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise DecodeError("the message breaks off")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
