"""Metadata as stores keep it: the text of a JSON object; how it is measured, and how two are merged."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lensmesh_chassis.reasons import Reason
from search_svc.wire.findings import Findings


@dataclass(frozen=True)
class MetadataLimits:
    """Limits of one item's metadata: bytes as compact JSON, levels of lists and objects."""

    max_bytes: int
    max_depth: int


def to_json(value: Any) -> str:
    """Write compact JSON text."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def merged(old: str, new: str) -> str:
    """Write the keys of `new`, null included, over those of `old`."""
    return to_json(json.loads(old) | json.loads(new))


def depth_of(value: Any) -> int:
    """Count the levels of lists and objects; a scalar has none."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, list | dict)]:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def check_merged(merged_texts: Mapping[int, str], limits: MetadataLimits) -> None:
    """Refuse merged metadata that exceeds the limits; items are given by their places in the request.

    Raises:
        InvalidInput: METADATA_TOO_LARGE or METADATA_TOO_DEEP, naming each item.
    """
    findings = Findings()
    for place, text in merged_texts.items():
        field = f"items[{place}].metadata"
        value = json.loads(text, parse_int=_number, parse_float=_number)
        size = len(to_json(value).encode())
        if size > limits.max_bytes:
            findings.invalid(
                Reason.METADATA_TOO_LARGE,
                field,
                f"has {size} bytes as JSON together with what is stored, and the limit is {limits.max_bytes}",
                size_bytes=size,
            )
        if depth_of(value) > limits.max_depth:
            findings.invalid(
                Reason.METADATA_TOO_DEEP,
                field,
                f"together with what is stored nests more than {limits.max_depth} deep: write over the deep key",
                limit=limits.max_depth,
            )
    findings.check()


def _number(text: str) -> float | int:
    """Read a number as it was sent, however the store writes it."""
    number = float(text)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def same_json(one: Any, other: Any) -> bool:
    """Compare as JSON does: 1 equals 1.0 and not true. Python takes 1 and True for equal."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
