"""What a filter means, in plain Python: the reference that every store is compared with."""

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

from search_svc.filters import All, Equals, Exists, FieldPath, Filter, Matches, Not, NumberRange, Some, TimeRange
from search_svc.model import Item
from search_svc.times import parse_time
from search_svc.words.languages import forms
from search_svc.words.queries import Term
from search_svc.words.tokens import fold, words_of

_MISSING = object()


def passes(tree: Filter, item: Item, metadata: dict[str, Any], language: str = "en") -> bool:
    """Whether a filter chooses an item."""
    match tree:
        case All(inner):
            return all(passes(one, item, metadata, language) for one in inner)
        case Some(inner):
            return any(passes(one, item, metadata, language) for one in inner)
        case Not(one):
            return not passes(one, item, metadata, language)
        case Exists(path):
            return _field(path, item, metadata) not in (_MISSING, None)
        case Equals(path, values):
            # A digest is hexadecimal, in either case.
            wanted = [
                each.lower() if path == ("$content_digest",) and isinstance(each, str) else each for each in values
            ]
            return any(_same(element, value) for element in _elements(path, item, metadata) for value in wanted)
        case NumberRange():
            numbers = [element for element in _elements(tree.path, item, metadata) if _is_number(element)]
            return any(_within(number, tree) for number in numbers)
        case TimeRange():
            texts = [element for element in _elements(tree.path, item, metadata) if isinstance(element, str)]
            return any(_within(moment, tree) for moment in map(parse_time, texts) if moment is not None)
        case Matches(path, query):
            texts = [element for element in _elements(path, item, metadata) if isinstance(element, str)]
            return all(holds(term, texts, language) for term in query.terms)


def holds(term: Term, texts: list[str], language: str) -> bool:
    """Whether one of these texts holds a term of a query: by its words, or the stem of its only one."""
    for text in texts:
        words = words_of(text)
        simple = [fold(word) for word in words]
        asked = [fold(word) for word in term.words]
        if term.is_prefix:
            if any(word.startswith(asked[0]) for word in simple):
                return True
        elif any(simple[at : at + len(asked)] == asked for at in range(len(simple))):
            return True
        elif len(asked) == 1 and not term.is_quoted:
            stems = {_stem(word, language) for word in words}
            if _stem(term.words[0], language) in stems:
                return True
    return False


def holds_itself(term: Term, texts: list[str], language: str) -> bool:
    """As `holds`, by the words alone."""
    return holds(replace(term, is_quoted=not term.is_prefix), texts, language)


def _stem(word: str, language: str) -> str:
    simple, stem = forms(word, language)
    return stem or simple


def _field(path: FieldPath, item: Item, metadata: dict[str, Any]) -> Any:
    match path[0]:
        case "$id":
            return item.id
        case "$caption":
            return item.caption.text if item.caption else _MISSING
        case "$content_digest":
            return item.content_digest.hex() or _MISSING
    value: Any = metadata
    for level in path:
        if not isinstance(value, dict) or level not in value:
            return _MISSING
        value = value[level]
    return value


def _elements(path: FieldPath, item: Item, metadata: dict[str, Any]) -> list[Any]:
    value = _field(path, item, metadata)
    if value is _MISSING:
        return []
    return value if isinstance(value, list) else [value]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(element: Any, value: Any) -> bool:
    if _is_number(element) and _is_number(value):
        return bool(element == value)
    return type(element) is type(value) and bool(element == value)


def _within(value: float | datetime, test: NumberRange | TimeRange) -> bool:
    return (
        (test.at_least is None or value >= test.at_least)  # type: ignore[operator]  # both numbers or both times
        and (test.above is None or value > test.above)  # type: ignore[operator]
        and (test.at_most is None or value <= test.at_most)  # type: ignore[operator]
        and (test.below is None or value < test.below)  # type: ignore[operator]
    )


def metadata_of(item: Item) -> dict[str, Any]:
    """An item's metadata as values."""
    value: dict[str, Any] = json.loads(item.metadata)
    return value
