"""Translation of metadata: a protobuf Struct on the wire, the text of a JSON object everywhere else."""

import json
import math
from typing import Any

from google.protobuf import struct_pb2

from lensmesh_chassis.messages.structs import DEEPEST, INEXACT, is_inexact
from search_svc.metadata import to_json

# Made once: making it takes as long as reading the metadata of an item.
_DECODER = json.JSONDecoder(parse_int=float)


class MetadataError(ValueError):
    """An error in metadata: what is wrong, and under which key."""


class TooDeepError(MetadataError):
    """Lists and objects that nest deeper than the limit."""


def struct_to_json(struct: struct_pb2.Struct, max_depth: int) -> str:
    """Write compact JSON text; numbers as JSON writes them, whole ones without a fraction.

    Raises:
        MetadataError: NaN, infinity, integers that a double does not hold, NUL characters, or a value of no kind.
        TooDeepError: more than `max_depth` levels of lists and objects.
    """
    return to_json(_object(struct, max_depth))


def _object(struct: struct_pb2.Struct, levels: int) -> dict[str, Any]:
    if not levels:
        raise TooDeepError
    result = {}
    for key, value in struct.fields.items():
        if "\x00" in key:
            raise MetadataError("a key contains a NUL character")
        result[key] = _value(value, key, levels - 1)
    return result


def _value(value: struct_pb2.Value, key: str, levels: int) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            if "\x00" in value.string_value:
                raise MetadataError(f"the value of {key!r} contains a NUL character")
            return value.string_value
        case "number_value":
            number = value.number_value
            if not math.isfinite(number):
                raise MetadataError(f"the value of {key!r} is {number}: numbers are finite")
            if is_inexact(number):
                raise MetadataError(f"the value of {key!r} is {number:.0f}: {INEXACT}")
            return int(number) if number.is_integer() and abs(number) < 2**53 else number
        case "bool_value":
            return value.bool_value
        case "null_value":
            return None
        case "struct_value":
            return _object(value.struct_value, levels)
        case "list_value":
            if not levels:
                raise TooDeepError
            return [_value(element, key, levels - 1) for element in value.list_value.values]
        case _:
            raise MetadataError(f"the value of {key!r} is of no kind: null is null_value")


def json_to_struct(text: str, struct: struct_pb2.Struct) -> None:
    """Fill a Struct from the text of a JSON object.

    What an older version stored deeper than an answer can carry comes back as the JSON text of its inner part.
    """
    fields = struct.fields
    # What stores return has no space around it, which decode() would look for.
    for key, value in _DECODER.raw_decode(text)[0].items():
        _fill(fields[key], value, DEEPEST - 1)


def _fill(message: struct_pb2.Value, value: Any, levels: int) -> None:
    # As Struct.update() does, in two thirds of the time.
    kind = type(value)
    if kind is str:
        message.string_value = value
    elif kind is float:
        message.number_value = value
    elif kind is bool:
        message.bool_value = value
    elif value is None:
        message.null_value = struct_pb2.NULL_VALUE
    elif not levels:
        message.string_value = to_json(value)
    elif kind is dict:
        message.struct_value.SetInParent()
        fields = message.struct_value.fields
        for key, inner in value.items():
            _fill(fields[key], inner, levels - 1)
    else:
        message.list_value.SetInParent()
        values = message.list_value.values
        for inner in value:
            _fill(values.add(), inner, levels - 1)
