"""Metadata: a protobuf Struct on the wire, the text of a JSON object everywhere else."""

import json
import math
from typing import Any

from google.protobuf import struct_pb2


class MetadataError(ValueError):
    """What is wrong with metadata, and under which key."""


def struct_to_json(struct: struct_pb2.Struct) -> str:
    """Compact JSON text; numbers as JSON writes them, whole ones without a fraction.

    Raises:
        MetadataError: NaN, infinity, NUL characters, or a value of no kind.
    """
    return json.dumps(_object(struct), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _object(struct: struct_pb2.Struct) -> dict[str, Any]:
    result = {}
    for key, value in struct.fields.items():
        if "\x00" in key:
            raise MetadataError("a key contains a NUL character")
        result[key] = _value(value, key)
    return result


def _value(value: struct_pb2.Value, key: str) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            if "\x00" in value.string_value:
                raise MetadataError(f"the value of {key!r} contains a NUL character")
            return value.string_value
        case "number_value":
            number = value.number_value
            if not math.isfinite(number):
                raise MetadataError(f"the value of {key!r} is {number}: numbers are finite")
            return int(number) if number.is_integer() and abs(number) < 2**53 else number
        case "bool_value":
            return value.bool_value
        case "null_value":
            return None
        case "struct_value":
            return _object(value.struct_value)
        case "list_value":
            return [_value(element, key) for element in value.list_value.values]
        case _:
            raise MetadataError(f"the value of {key!r} is of no kind: null is null_value")


def json_to_struct(text: str, struct: struct_pb2.Struct) -> None:
    """Fills a Struct from the text of a JSON object."""
    struct.update(json.loads(text, parse_int=float))
