"""The payload that filters and facets ask, laid out so that Qdrant answers exactly what the contract means.

Qdrant's own reading of JSON differs from ours: it looks into objects inside lists, takes an empty list for nothing,
compares no float for equality, counts no float, and reads more texts as times. So metadata is kept as text, and beside
it each path that a filter can name has a node with what it holds, sorted by type:

    fields: {"camera.iso": {"there": ["yes"], "numbers": ["=100.0"], "values": [100.0]}, ...}

Strings begin with "=": local mode would rewrite one that looks like a UUID.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from search_svc.filters import MAX_PATH_BYTES, MAX_PATH_LEVELS, FieldPath
from search_svc.model import Definition, Item
from search_svc.times import parse_time, time_text
from search_svc.words.texts import words_of_item

_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,64}")
THERE = "yes"
# Beside it where the value is one string, number or bool: no list, no object. Not in items of older versions.
SCALAR = "scalar"


class Slot(StrEnum):
    """Kinds of values that a node holds of its field: the value, or the elements of the list that it is."""

    THERE = "there"
    TEXTS = "texts"
    NUMBERS = "numbers"
    BOOLS = "bools"
    # The same numbers, for ranges.
    VALUES = "values"
    # Texts that are RFC 3339 times, as moments for ranges and as they were written.
    TIMES = "times"
    TIME_TEXTS = "time_texts"


class WordSlot(StrEnum):
    """Kinds of words that are kept of a text; see `search_svc.words.texts.TextWords`."""

    WORDS = "words"
    RUNS = "runs"
    STARTS = "starts"


def slot_key(path: FieldPath, slot: Slot) -> str:
    """Return Qdrant's path to a slot."""
    return f'fields."{_node(path)}".{slot}'


def slot_values(payload: dict[str, Any], key: str) -> list[Any]:
    """Return what a payload holds under a key: a slot's path, or a key at its top."""
    if not key.startswith("fields."):
        return [payload[key]] if key in payload else []
    # A node's name has no quotation mark.
    _, node, slot = key.split('"')
    values: list[Any] = payload.get("fields", {}).get(node, {}).get(slot[1:], [])
    return values


def _node(path: FieldPath) -> str:
    """Return a node's name: the path itself where it is short and plain, for people to read; else its digest."""
    text = ".".join(path)
    return text if _PLAIN.fullmatch(text) else "#" + hashlib.sha256(text.encode()).hexdigest()[:32]


def text_token(text: str) -> str:
    """Return a string as its slot holds it."""
    return "=" + text


def number_token(number: float) -> str:
    """Return a number as its slot holds it: 1 and 1.0, 0 and -0 are the same."""
    return f"={float(number) + 0.0!r}"


def bool_token(value: bool) -> str:
    """Return a bool as its slot holds it."""
    return "=true" if value else "=false"


def words_key(place: int, slot: WordSlot) -> str:
    """Return Qdrant's path to a slot of the words of a text; see `search_svc.words.texts.text_paths`."""
    return f"words.{text_name(place)}.{slot}"


def text_name(place: int) -> str:
    """Return the key of the words of a text."""
    return f"text_{place}"


def words_payload(item: Item, definition: Definition) -> dict[str, dict[str, list[str]]]:
    """Return the words of an item's texts, as `words_key` finds them. Texts without any are left out."""
    if not definition.language:
        return {}
    texts = enumerate(words_of_item(item, definition))
    return {
        text_name(place): {
            WordSlot.WORDS.value: [word_token(word) for word in (*text.places, *sorted(text.stems))],
            WordSlot.RUNS.value: [word_token(run) for run in sorted(text.runs)],
            WordSlot.STARTS.value: [word_token(start) for start in sorted(text.starts)],
        }
        for place, text in texts
        if text.places
    }


def word_token(word: str) -> str:
    """Return a word, a stem, a run or a beginning as its slot holds it."""
    return "=" + word


def fields_of(item: Item) -> dict[str, dict[str, list[Any]]]:
    """Return the nodes of an item: its own texts and its metadata."""
    nodes = {_node(("$id",)): _slots(item.id)}
    if item.caption is not None:
        nodes[_node(("$caption",))] = _slots(item.caption.text)
    if item.content_digest:
        nodes[_node(("$content_digest",))] = _slots(item.content_digest.hex())
    if item.low_content:
        # Left out otherwise, as it is in items of older versions.
        nodes[_node(("$low_content",))] = _slots(True)
    for path, value in _paths(json.loads(item.metadata), ()):
        nodes[_node(path)] = _slots(value)
    return nodes


def _paths(value: dict[str, Any], above: FieldPath) -> Iterator[tuple[FieldPath, Any]]:
    """Yield every path that a filter can name and whose value is not null, with the value.

    Steps do not lead into lists.
    """
    for level, inner in value.items():
        path = (*above, level)
        if not level or "." in level or (not above and level.startswith("$")) or inner is None:
            continue
        if len(path) > MAX_PATH_LEVELS or len(".".join(path).encode()) > MAX_PATH_BYTES:
            continue
        yield path, inner
        if isinstance(inner, dict):
            yield from _paths(inner, path)


def _slots(value: Any) -> dict[str, list[Any]]:
    slots: dict[Slot, dict[Any, None]] = {Slot.THERE: {THERE: None}}

    def add(slot: Slot, element: Any) -> None:
        # A dict keeps the order and drops what was there.
        slots.setdefault(slot, {})[element] = None

    if isinstance(value, bool | int | float | str):
        add(Slot.THERE, SCALAR)
    for element in value if isinstance(value, list) else [value]:
        # bool first: it is a number too.
        if isinstance(element, bool):
            add(Slot.BOOLS, bool_token(element))
        elif isinstance(element, int | float):
            add(Slot.NUMBERS, number_token(element))
            add(Slot.VALUES, float(element))
        elif isinstance(element, str):
            add(Slot.TEXTS, text_token(element))
            moment = parse_time(element)
            if moment is not None:
                add(Slot.TIMES, time_text(moment))
                add(Slot.TIME_TEXTS, text_token(element))
    return {slot.value: list(elements) for slot, elements in slots.items()}
