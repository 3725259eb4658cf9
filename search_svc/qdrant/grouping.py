"""Groups of items in Qdrant: what their values are, and a condition that leaves full groups out."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from qdrant_client import models

from search_svc.filters import FieldPath
from search_svc.grouping import MAX_VALUES_BYTES, GroupValues
from search_svc.qdrant.fields import SCALAR, Slot, bool_token, number_token, slot_key, text_token
from search_svc.qdrant.predicates import any_of

# Conditions of one query. Groups beyond them come through, and are left out by their values.
_MOST = 1_000


def values_of(payload: Mapping[str, Any], paths: Sequence[FieldPath]) -> GroupValues:
    """Return an item's values of some fields; None where it lacks one, or where they are too long."""
    metadata = json.loads(payload["metadata"])
    values = []
    for path in paths:
        match path[0]:
            case "$content_digest":
                value = payload.get("digest")
            case "$caption":
                value = (payload.get("caption") or {}).get("text")
            case _:
                value = _at(metadata, path)
        if value is None:
            return None
        values.append(value)
    size = len(json.dumps(values, ensure_ascii=False).encode())
    return tuple(values) if size <= MAX_VALUES_BYTES else None


def _at(metadata: Any, path: FieldPath) -> object:
    for level in path:
        if not isinstance(metadata, dict):
            return None
        metadata = metadata.get(level)
    value: object = metadata
    return value


def certainly_in(paths: Sequence[FieldPath], groups: Sequence[tuple[object, ...]]) -> list[models.Condition]:
    """Return conditions that hold for items of these groups alone, though not for all of them.

    A field that holds one string, number or bool is marked as such when its item is written. Lists, objects and items
    of older versions are not: they are found, whatever their group.
    """
    conditions: list[models.Condition] = []
    if len(paths) == 1:
        # Together, as they may be many.
        tokens: dict[str, list[str]] = {}
        for values in groups[:_MOST]:
            key_token = _token(paths[0], values[0])
            if key_token is not None:
                tokens.setdefault(key_token[0], []).append(key_token[1])
        return [models.Filter(must=[any_of(key, each), *_marks(paths)]) for key, each in tokens.items()]
    for values in groups[:_MOST]:
        tests = [_token(path, value) for path, value in zip(paths, values, strict=True)]
        known = [test for test in tests if test is not None]
        if len(known) == len(tests):
            conditions.append(models.Filter(must=[*(any_of(key, [token]) for key, token in known), *_marks(paths)]))
    return conditions


def _marks(paths: Sequence[FieldPath]) -> list[models.Condition]:
    # Own fields are never lists.
    return [any_of(slot_key(path, Slot.THERE), [SCALAR]) for path in paths if not path[0].startswith("$")]


def _token(path: FieldPath, value: object) -> tuple[str, str] | None:
    """Return the key under which a value stands and how it is written there; None for a list or an object."""
    if path == ("$content_digest",):
        return "digest", str(value)
    match value:
        case bool():
            return slot_key(path, Slot.BOOLS), bool_token(value)
        case int() | float():
            return slot_key(path, Slot.NUMBERS), number_token(value)
        case str():
            return slot_key(path, Slot.TEXTS), text_token(value)
        case _:
            return None
