"""Filters in Qdrant's terms.

Parts that are always true or always false are worked out here: Qdrant's readings of an empty clause differ from ours.
"""

from collections.abc import Iterator, Sequence

from qdrant_client import models

from search_svc.filters import (
    OWN_FIELDS,
    TIME_FIELDS,
    All,
    Equals,
    Exists,
    FieldPath,
    Filter,
    Matches,
    Not,
    NumberRange,
    Scalar,
    Some,
    TimeRange,
)
from search_svc.model import Definition
from search_svc.qdrant.fields import (
    THERE,
    Slot,
    WordSlot,
    bool_token,
    number_token,
    slot_key,
    text_token,
    word_token,
    words_key,
)
from search_svc.qdrant.layout import point_id
from search_svc.times import parse_time
from search_svc.words.texts import text_place
from search_svc.words.wanting import WantedTerm, wanted


def compile_filter(tree: Filter | None, definition: Definition) -> models.Filter:
    """Return a filter for Qdrant; None passes every item.

    Raises:
        PreconditionFailed: FIELD_NOT_INDEXED, it asks for words that are not kept.
    """
    condition = True if tree is None else _compile(tree, definition)
    if isinstance(condition, bool):
        # Every point has an id.
        nowhere = _empty("id")
        return models.Filter(must_not=[nowhere]) if condition else models.Filter(must=[nowhere])
    return condition if isinstance(condition, models.Filter) else models.Filter(must=[condition])


def but_not(chosen: models.Filter | None, *without: models.Condition) -> models.Filter | None:
    """Return a filter for the items that `chosen` passes (None: all) and none of the conditions `without` does."""
    if not without:
        return chosen
    return models.Filter(must=None if chosen is None else [chosen], must_not=list(without))


def and_any(chosen: models.Filter | None, key: str) -> models.Filter:
    """Return a filter for the items that `chosen` passes (None: all) and that have anything under a key."""
    return models.Filter(must=None if chosen is None else [chosen], must_not=[_empty(key)])


def _compile(tree: Filter, definition: Definition) -> models.Condition | bool:
    match tree:
        case All(inner):
            return _all([_compile(one, definition) for one in inner])
        case Some(inner):
            return _some([_compile(one, definition) for one in inner])
        case Not(one):
            return _not(_compile(one, definition))
        case Exists(path):
            return path[0] in (*TIME_FIELDS, "$low_content") or _matches(path, Slot.THERE, [THERE])
        case Equals(path, values):
            return _equals(path, values)
        case NumberRange():
            return _number_range(tree)
        case TimeRange():
            return _time_range(tree)
        case Matches(path, query, field):
            place = text_place(definition, path, field)
            return models.Filter(must=[holds(term, [place]) for term in wanted(query, definition.language)])


def holds(term: WantedTerm, places: Sequence[int]) -> models.Filter:
    """Return the condition that one of the texts at these places holds a term, exactly or by its stem."""
    return models.Filter(should=[condition for place in places for condition in _holds(term, place)])


def _holds(term: WantedTerm, place: int) -> Iterator[models.Condition]:
    words = words_key(place, WordSlot.WORDS)
    if term.is_prefix:
        yield any_of(words_key(place, WordSlot.STARTS), [word_token(term.words[0])])
    elif len(term.words) == 1:
        yield any_of(words, [word_token(word) for word in (*term.words, *term.stems)])
    else:
        runs = words_key(place, WordSlot.RUNS)
        yield models.Filter(
            must=[
                *(any_of(words, [word_token(word)]) for word in dict.fromkeys(term.words)),
                *(any_of(runs, [word_token(run)]) for run in term.runs),
            ]
        )


def _all(conditions: list[models.Condition | bool]) -> models.Condition | bool:
    if False in conditions:
        return False
    real = [condition for condition in conditions if not isinstance(condition, bool)]
    return models.Filter(must=real) if real else True


def _some(conditions: list[models.Condition | bool]) -> models.Condition | bool:
    if True in conditions:
        return True
    real = [condition for condition in conditions if not isinstance(condition, bool)]
    return models.Filter(should=real) if real else False


def _not(condition: models.Condition | bool) -> models.Condition | bool:
    return not condition if isinstance(condition, bool) else models.Filter(must_not=[condition])


def _matches(path: FieldPath, slot: Slot, tokens: list[str]) -> models.Condition | bool:
    return any_of(slot_key(path, slot), tokens) if tokens else False


def any_of(key: str, tokens: list[str]) -> models.FieldCondition:
    """Return the condition that one of these strings stands under that key."""
    return models.FieldCondition(key=key, match=models.MatchAny(any=tokens))


def _equals(path: FieldPath, values: tuple[Scalar, ...]) -> models.Condition | bool:
    texts = [value for value in values if isinstance(value, str)]
    if path[0] in TIME_FIELDS:
        moments = [moment for moment in map(parse_time, texts) if moment is not None]
        return _some([_time_range(TimeRange(path, at_least=moment, at_most=moment)) for moment in moments])
    if path == ("$id",):
        return models.HasIdCondition(has_id=[point_id(text) for text in texts]) if texts else False
    if path == ("$content_digest",):
        return any_of("digest", [text.lower() for text in texts]) if texts else False
    if path == ("$low_content",):
        low = _matches(path, Slot.BOOLS, [bool_token(True)])
        return _some([low if value else _not(low) for value in {v for v in values if isinstance(v, bool)}])
    numbers = [value for value in values if isinstance(value, float) and not isinstance(value, bool)]
    bools = [value for value in values if isinstance(value, bool)]
    return _some(
        [
            _matches(path, Slot.TEXTS, [text_token(text) for text in texts]),
            _matches(path, Slot.NUMBERS, [number_token(number) for number in numbers]),
            _matches(path, Slot.BOOLS, [bool_token(value) for value in bools]),
        ]
    )


def _number_range(test: NumberRange) -> models.Condition | bool:
    if test.path[0] in OWN_FIELDS:
        return False
    bounds = models.Range(gte=test.at_least, gt=test.above, lte=test.at_most, lt=test.below)
    if bounds == models.Range():
        # Open at both ends: any number.
        return models.Filter(must_not=[_empty(slot_key(test.path, Slot.VALUES))])
    return models.FieldCondition(key=slot_key(test.path, Slot.VALUES), range=bounds)


def _time_range(test: TimeRange) -> models.Condition | bool:
    key = test.path[0].removeprefix("$") if test.path[0] in TIME_FIELDS else slot_key(test.path, Slot.TIMES)
    bounds = models.DatetimeRange(gte=test.at_least, gt=test.above, lte=test.at_most, lt=test.below)
    if bounds == models.DatetimeRange():
        return models.Filter(must_not=[_empty(key)])
    return models.FieldCondition(key=key, range=bounds)


def _empty(key: str) -> models.IsEmptyCondition:
    return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
