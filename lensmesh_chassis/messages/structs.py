"""Checks of metadata as google.protobuf.Struct: how deep it nests, and which numbers survive being sent as doubles."""

import math

from google.protobuf import struct_pb2

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason

DEFAULT_MAX_DEPTH = 16
# Each level takes three of the hundred that protobuf parses, and an answer has some messages around the metadata.
DEEPEST = 24
# A double names every integer below 2**53. From there on neighbours become one number, and which of them was meant is
# lost before the message is built. Integers that programs use end at 128 bits; larger doubles are measurements.
_EXACT, _LARGEST_INTEGER = 2.0**53, 2.0**128
INEXACT = "integers from 2**53 on are changed by the way they are sent: send it as a string"


def is_inexact(number: float) -> bool:
    """Tell whether a number may be an integer that was changed when it became a double."""
    return _EXACT <= abs(number) <= _LARGEST_INTEGER


def check_struct(struct: struct_pb2.Struct, field: str, max_depth: int = DEFAULT_MAX_DEPTH) -> None:
    """Check metadata before it is stored, and turn its negative zeros into zeros: every store returns them so.

    Raises:
        InvalidInput: METADATA_TOO_DEEP, more than `max_depth` levels of lists and objects; METADATA_INVALID, an integer
            that a double does not hold.
    """
    waiting: list[tuple[struct_pb2.Value, int]] = [(value, 1) for value in struct.fields.values()]
    while waiting:
        value, depth = waiting.pop()
        kind = value.WhichOneof("kind")
        if kind == "number_value":
            number = value.number_value
            if is_inexact(number):
                raise InvalidInput(
                    Reason.METADATA_INVALID, f"{field} has the number {number:.0f}: {INEXACT}", field=field
                )
            if number == 0 and math.copysign(1, number) < 0:
                value.number_value = 0.0
        elif kind in ("struct_value", "list_value"):
            if depth == max_depth:
                raise too_deep(field, max_depth)
            inner = value.struct_value.fields.values() if kind == "struct_value" else value.list_value.values
            waiting += [(each, depth + 1) for each in inner]


def too_deep(field: str, max_depth: int) -> InvalidInput:
    """Build the error for metadata that nests too deeply."""
    return InvalidInput(
        Reason.METADATA_TOO_DEEP,
        f"{field} nests lists and objects more than {max_depth} deep: keep it flatter, or send the inner part"
        " as a string",
        field=field,
        metadata={"limit": max_depth},
    )
