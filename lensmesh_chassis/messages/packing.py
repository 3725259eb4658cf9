"""Serialization of messages: a large one in pieces, and between the pieces the event loop turns to other work.

protobuf serializes with Python's lock held, so a thread would not help: 30 MiB of small values take it a third of a
second. It can be done in pieces because protobuf encodes a message as the concatenation of its fields.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

# As long as Python lets one thread run before another.
_SLICE_S: Final = 0.005
_PIECE_BYTES: Final = 64 * 1024
# Of what few messages hold, each is within a service's limits.
_FEW: Final = 16
_OURS: Final = "lensmesh."
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Slices:
    """Pauses within long work on the event loop: everybody else has a turn every few milliseconds."""

    def __init__(self) -> None:
        self._until = time.perf_counter() + _SLICE_S

    @property
    def over(self) -> bool:
        """True where this slice is used up, so that others should run."""
        return time.perf_counter() > self._until

    async def rest(self) -> None:
        """Let the others have their turn."""
        await asyncio.sleep(0)
        self._until = time.perf_counter() + _SLICE_S


async def pack_message(message: Message) -> bytes:
    """Serialize as `message.SerializeToString()` does, part by part where there are many."""
    if _has_few(message, _parts(message.DESCRIPTOR)):
        return message.SerializeToString()
    packed: list[bytes] = []
    slices = Slices()
    for _ in _pack(message, packed):
        if slices.over:
            await slices.rest()
    return b"".join(packed)


def pack_items(rest: Message, field: str, items: Iterable[bytes]) -> bytes:
    """Serialize `rest` with more messages in its repeated `field`, each of which is serialized already."""
    tag = _varint(rest.DESCRIPTOR.fields_by_name[field].number << 3 | _BYTES)
    packed = [rest.SerializeToString()]
    for item in items:
        packed += tag, _varint(len(item)), item
    return b"".join(packed)


async def copy_all(messages: Sequence[Message], into: Any) -> None:
    """Add copies of `messages` to a repeated field."""
    if len(messages) < _FEW:
        into.extend(messages)
        return
    slices = Slices()
    for message in messages:
        into.append(message)
        if slices.over:
            await slices.rest()


@dataclass(frozen=True)
class _Part:
    """A field that may hold many messages: they are serialized one by one."""

    name: str
    tag: bytes
    repeated: bool
    inner: tuple[_Part, ...]
    """Such fields of theirs."""

    def values(self, message: Message) -> Sequence[Message]:
        value: Any = getattr(message, self.name)
        return value if self.repeated else [value] if message.HasField(self.name) else []


@functools.cache
def _parts(kind: Descriptor, *, single: bool = True) -> tuple[_Part, ...]:
    """Return the fields of a message type that may hold many messages. `single`: the message is not itself one of many.

    Maps are left out, and messages that are not ours: JSON consists of parts that are too small.
    """
    found = []
    for field in kind.fields:
        inner = field.message_type
        if inner is None or not inner.full_name.startswith(_OURS) or inner.GetOptions().map_entry:
            continue
        # Filters hold filters.
        if inner == kind or any(one.message_type == kind for one in inner.fields):
            continue
        within = _parts(inner, single=not field.is_repeated)
        if within or (field.is_repeated and single):
            tag = _varint(field.number << 3 | _BYTES)
            found.append(_Part(field.name, tag, field.is_repeated, within))
    return tuple(found)


def _has_few(message: Message, parts: Sequence[_Part]) -> bool:
    """Tell whether the parts of a message hold few messages. It is asked for every answer, and so written out."""
    return _few_left(message, parts, _FEW) > 0


def _few_left(message: Message, parts: Sequence[_Part], left: int) -> int:
    """Return how many more messages would still be few; 0 or less where there are more."""
    for part in parts:
        if part.repeated:
            values: Any = getattr(message, part.name)
        elif message.HasField(part.name):
            values = (getattr(message, part.name),)
        else:
            continue
        left -= len(values)
        if part.inner:
            for value in values:
                if left <= 0:
                    return left
                left = _few_left(value, part.inner, left)
    return left


def _pack(message: Message, packed: list[bytes], parts: Sequence[_Part] | None = None) -> Generator[None, None, int]:
    """Append the serialized form of a message, with a pause after each piece. Return how many bytes that are."""
    size = since = 0
    chosen = {part.name: part for part in (_parts(message.DESCRIPTOR) if parts is None else parts)}
    rest = type(message)()
    for field, value in message.ListFields():
        if field.name not in chosen:
            _copy(field, value, rest)
    for part in chosen.values():
        for value in part.values(message):
            inner: list[bytes] = []
            if part.inner:
                length = yield from _pack(value, inner, part.inner)
            else:
                data = value.SerializeToString()
                inner.append(data)
                length = len(data)
                since += length
                if since > _PIECE_BYTES:
                    since = 0
                    yield
            head = part.tag + _varint(length)
            packed.append(head)
            packed += inner
            size += len(head) + length
    others = rest.SerializeToString() + _unknown(message)
    packed.append(others)
    return size + len(others)


def _copy(field: FieldDescriptor, value: Any, message: Message) -> None:
    if field.is_repeated:
        getattr(message, field.name).MergeFrom(value)
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(value)
    else:
        setattr(message, field.name, value)


def _unknown(message: Message) -> bytes:
    """Return the fields that a caller with newer contracts sent, unchanged."""
    fields: Any = UnknownFieldSet(message)
    return b"".join(_encoded(field) for field in fields)


def _encoded(field: Any) -> bytes:
    tag: bytes = _varint(field.field_number << 3 | field.wire_type)
    data: Any = field.data
    match field.wire_type:
        case wire if wire == _VARINT:
            return tag + _varint(data)
        case wire if wire == _FIXED64:
            return tag + int(data).to_bytes(8, "little")
        case wire if wire == _FIXED32:
            return tag + int(data).to_bytes(4, "little")
        case wire if wire == _BYTES:
            return tag + _varint(len(data)) + bytes(data)
    # Groups are of no contract of ours, and nobody misses one.
    return b""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
