"""Words of an item's texts, as stores keep them: those of its caption, and of its metadata fields of type TEXT."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

from search_svc.filters import All, FieldPath, Filter, Matches, Not, Some
from search_svc.model import Definition, Item
from search_svc.refusals import no_words
from search_svc.words.languages import forms
from search_svc.words.tokens import MAX_PREFIX_CHARS, STEM, words_of

MAX_WORDS = 10_000
"""Words of one text that count, from its beginning."""
MAX_LETTERS = 100_000
"""Characters of the words of all texts of an item that count. A tsvector of PostgreSQL has a megabyte."""
MAX_PLACES = 255
"""Places of one word in a text that count, from its beginning. PostgreSQL keeps no more."""
CAPTION: FieldPath = ("$caption",)


@dataclass(frozen=True)
class TextWords:
    """Words of one text.

    Args:
        words: in their order and without accents; "" is a gap, over which no phrase reaches.
        stems: those that are not the word itself, with `STEM` before them.
    """

    words: tuple[str, ...] = ()
    stems: frozenset[str] = frozenset()

    @cached_property
    def places(self) -> Mapping[str, list[int]]:
        """Places of each word, beginning with 1."""
        found: dict[str, list[int]] = {}
        for place, word in enumerate(self.words, start=1):
            if word:
                found.setdefault(word, []).append(place)
        return found

    @property
    def count(self) -> int:
        """Number of different words and stems."""
        return len(self.places) + len(self.stems)

    @property
    def letters(self) -> int:
        """Number of characters of all words."""
        return sum(map(len, self.words))

    @cached_property
    def runs(self) -> frozenset[str]:
        """Two or three words that follow one another, with spaces between them."""
        words = self.words
        twos = pairwise(words)
        threes = zip(words, words[1:], words[2:], strict=False)
        return frozenset(" ".join(run) for runs in (twos, threes) for run in runs if all(run))

    @cached_property
    def starts(self) -> frozenset[str]:
        """Beginnings of the words, and the words, up to `MAX_PREFIX_CHARS` characters."""
        return frozenset(
            word[:length] for word in self.places for length in range(1, min(len(word), MAX_PREFIX_CHARS) + 1)
        )


_NONE = TextWords()
_GAP = ("", "")


def text_words(texts: Sequence[str], language: str, most_letters: int = MAX_LETTERS) -> TextWords:
    """Return the words of some texts as of one, with a gap between two of them."""
    both: list[tuple[str, str]] = []
    for text in texts:
        if len(both) >= MAX_WORDS:
            break
        if both:
            both.append(_GAP)
        both += [forms(word, language) for word in words_of(text)]
    del both[MAX_WORDS:]
    words = [simple for simple, _ in both]
    if sum(map(len, words)) > most_letters:
        fitting = sum(1 for letters in accumulate(map(len, words)) if letters <= most_letters)
        del both[fitting:], words[fitting:]
    if len(words) > MAX_PLACES:
        words = _without_repeats(words)
    return TextWords(tuple(words), frozenset([STEM + stem for _, stem in both if stem]))


def _without_repeats(words: list[str]) -> list[str]:
    """Leave a gap where a word was at `MAX_PLACES` places before."""
    counts: dict[str, int] = {}
    for place, word in enumerate(words):
        counts[word] = counts.get(word, 0) + 1
        if word and counts[word] > MAX_PLACES:
            words[place] = ""
    return words


def text_paths(definition: Definition) -> tuple[FieldPath, ...]:
    """Return the fields whose words are kept, in the order in which stores number them: the caption is the first."""
    return (CAPTION, *(index.path for index in definition.text_indexes))


def text_place(definition: Definition, path: FieldPath, field: str) -> int:
    """Return the place of a field in `text_paths`.

    Args:
        field: where it is named in the request.

    Raises:
        PreconditionFailed: FIELD_NOT_INDEXED, its words are not kept.
    """
    paths = text_paths(definition)
    if not definition.language or path not in paths:
        raise no_words(definition.name, definition.language, ".".join(path), field)
    return paths.index(path)


def check_words(chosen: Filter, definition: Definition) -> None:
    """Check that the words of every field that a filter asks for are kept.

    Raises:
        PreconditionFailed: FIELD_NOT_INDEXED.
    """
    match chosen:
        case Matches(path=path, field=field):
            text_place(definition, path, field)
        case All(inner) | Some(inner):
            for each in inner:
                check_words(each, definition)
        case Not(negated):
            check_words(negated, definition)
        case _:
            pass


def words_of_item(item: Item, definition: Definition) -> list[TextWords]:
    """Return the words of an item's texts, in the order of `text_paths`."""
    caption = text_words([item.caption.text], definition.language) if item.caption else _NONE
    if not definition.text_indexes:
        return [caption]
    metadata = json.loads(item.metadata)
    found = [caption]
    for index in definition.text_indexes:
        left = MAX_LETTERS - sum(text.letters for text in found)
        found.append(text_words(_texts(metadata, index.path), definition.language, left))
    return found


def _texts(metadata: Any, path: FieldPath) -> list[str]:
    """Return the string at a path, or the strings of the list there. Steps do not lead into lists."""
    value = metadata
    for level in path:
        value = value.get(level) if isinstance(value, dict) else None
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]
