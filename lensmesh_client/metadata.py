"""Metadata as the contracts carry it, checked before it is sent: what the server could not even parse fails here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from google.protobuf import struct_pb2

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason

MAX_DEPTH = 16
"""Limits.max_metadata_depth of a server that does not tell it."""
# Beyond it a double no longer tells neighbouring integers apart.
LARGEST_INTEGER = 2**53
MAX_VALUES = 100_000
"""More cannot fit into any Limits.max_metadata_bytes of today, and would take long to find out."""
_PATH_SHOWN = 120


def struct(values: Mapping[str, object], max_depth: int = MAX_DEPTH) -> struct_pb2.Struct:
    """Build the Struct of `values`: None, bool, finite numbers, text, and lists and mappings of these.

    Raises InvalidInput that names the path: METADATA_TOO_DEEP beyond `max_depth` levels (flat metadata has 1; a value
    that contains itself has no end), METADATA_TOO_LARGE beyond 100,000 values, METADATA_INVALID for what a JSON
    document of doubles cannot hold.
    """
    if not isinstance(values, Mapping):
        raise _invalid("metadata", f"is a {type(values).__name__}: give a mapping")
    message = struct_pb2.Struct()
    _Builder(max_depth).fill(message, values, "metadata", max_depth)
    return message


class _Builder:
    """Fills one Struct and counts what it holds: a value that is shared many times over would never end."""

    def __init__(self, max_depth: int) -> None:
        self._max_depth = max_depth
        self._count = 0

    def fill(self, message: struct_pb2.Struct, values: Mapping[Any, object], path: str, left: int) -> None:
        """Write `values` into `message`; `left` is how many levels there may be, this one included."""
        if left == 0:
            raise self._too_deep(path)
        for key, value in values.items():
            if not isinstance(key, str):
                raise _invalid(path, f"has the key {key!r:.40}, a {type(key).__name__}: keys are strings")
            _check_text(key, path)
            self._set(message.fields[key], value, f"{path}.{key}", left - 1)

    def _set(self, message: struct_pb2.Value, value: object, path: str, left: int) -> None:
        self._count += 1
        if self._count > MAX_VALUES:
            raise InvalidInput(
                Reason.METADATA_TOO_LARGE,
                f"metadata holds more than {MAX_VALUES} values: keep less",
                field="metadata",
                metadata={"max_values": MAX_VALUES},
            )
        if value is None:
            message.null_value = struct_pb2.NULL_VALUE
        elif isinstance(value, bool):
            message.bool_value = value
        elif isinstance(value, str):
            _check_text(value, path)
            message.string_value = value
        elif isinstance(value, Integral | Real):
            message.number_value = _number(value, path)
        elif isinstance(value, Mapping):
            # Otherwise an empty mapping would be no value at all.
            message.struct_value.SetInParent()
            self.fill(message.struct_value, value, path, left)
        elif isinstance(value, list | tuple):
            if left == 0:
                raise self._too_deep(path)
            message.list_value.SetInParent()
            for index, inner in enumerate(value):
                self._set(message.list_value.values.add(), inner, f"{path}[{index}]", left - 1)
        else:
            raise _invalid(
                path,
                f"is a {type(value).__name__}, which JSON cannot hold: give None, a bool, a number, text, a list or a "
                "mapping; times go as RFC 3339 strings",
            )

    def _too_deep(self, path: str) -> InvalidInput:
        path = path[:_PATH_SHOWN]
        return InvalidInput(
            Reason.METADATA_TOO_DEEP,
            f"{path} lies deeper than {self._max_depth} levels of lists and objects, or contains itself: keep metadata "
            "flatter",
            field=path,
            metadata={"max_metadata_depth": self._max_depth},
        )


def _number(value: Integral | Real, path: str) -> float:
    if isinstance(value, Integral) and abs(int(value)) > LARGEST_INTEGER:
        raise _invalid(path, "is an integer beyond 2**53: send it as a string")
    number = float(value)
    if not math.isfinite(number):
        raise _invalid(path, f"is {number}: numbers must be finite")
    return number


def _check_text(text: str, path: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _invalid(path, "holds text that is not Unicode (a lone surrogate): write it another way") from error


def _invalid(path: str, why: str) -> InvalidInput:
    path = path.encode("utf-8", "replace").decode()[:_PATH_SHOWN]
    return InvalidInput(Reason.METADATA_INVALID, f"{path} {why}", field=path)
