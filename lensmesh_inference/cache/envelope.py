"""Cached values as bytes, the same in this process and in Redis.

A frame, all numbers little-endian:

    "LM", and the format's version     2 + 1 bytes
    CRC-32 of the key and the payload  4 bytes, unsigned
    the payload

The checksum covers the key, so that a value which lies under another's key is as foreign as a damaged one.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final, Protocol, TypeVar

Value = TypeVar("Value")

_MAGIC: Final = b"LM\x01"
_HEADER: Final = struct.Struct("<3sI")


class Codec(Protocol[Value]):
    """The encoding of one kind of values as payloads."""

    def dump(self, value: Value) -> bytes:
        """Return the payload of a value."""

    def load(self, payload: bytes) -> Value | None:
        """Return the value of a payload, or None for bytes that are no payload."""


def seal(key: str, payload: bytes) -> bytes:
    """Return the frame of a payload under its key."""
    return _HEADER.pack(_MAGIC, _checksum(key, payload)) + payload


def unseal(key: str, frame: bytes) -> bytes | None:
    """Return the payload of a frame. None: the frame is of another version, damaged, or another key's."""
    if len(frame) < _HEADER.size:
        return None
    magic, checksum = _HEADER.unpack_from(frame)
    payload = frame[_HEADER.size :]
    return payload if magic == _MAGIC and checksum == _checksum(key, payload) else None


def _checksum(key: str, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(key.encode()))
