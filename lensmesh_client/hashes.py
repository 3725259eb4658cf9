"""Perceptual hashes between the contracts' message and the client's own class."""

from __future__ import annotations

from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_client.types import PerceptualHash

_DIGITS = 64


def hash_message(value: PerceptualHash, path: str) -> common_pb2.PerceptualHash:
    """Make the message of a hash. Raises InvalidInput for what is no hash."""
    if not 0 <= value.quality <= 100:
        raise InvalidInput(
            Reason.HASH_INVALID, f"{path}.quality is {value.quality}: use 0 to 100", field=f"{path}.quality"
        )
    return common_pb2.PerceptualHash(
        hash=_bytes(value.hash, f"{path}.hash"),
        quality=value.quality,
        unframed=_bytes(value.unframed, f"{path}.unframed") if value.unframed else b"",
    )


def hash_of(message: common_pb2.PerceptualHash) -> PerceptualHash:
    """Translate the message of a hash."""
    return PerceptualHash(message.hash.hex(), message.quality, message.unframed.hex())


def _bytes(digits: str, path: str) -> bytes:
    try:
        found = bytes.fromhex(digits)
    except ValueError:
        found = b""
    if len(digits) != _DIGITS or len(found) * 2 != _DIGITS:
        raise InvalidInput(
            Reason.HASH_INVALID, f"{path} is {digits[:80]!r}: give PDQ's {_DIGITS} hexadecimal digits", field=path
        )
    return found
