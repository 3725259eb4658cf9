"""Rank of a text by the words of a query, the same in every store: it rests on the text and the query alone.

Texts that hold more of the query's words come first. Among those that hold as many, the exact word counts more than
one of its stem, words that follow one another as they do in the query count more than scattered ones, and short texts
count more than long ones. How rare a word is does not count: stores would have to know all texts for that.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Protocol

from search_svc.words.wanting import WantedTerm

EXACT, BY_STEM = 1.0, 0.7
"""Worth of a word that stands there itself, and of one of its stem."""
OPTIONAL = 0.2
"""Weight of a word that says little, of that of others."""
ADJACENT = 0.5
"""Worth of two words that follow one another, of what a word is."""
LONG = 100.0
"""Different words and stems with which a text counts half."""


# Of more terms, no look is made for texts that hold all but one.
_MOST_PARTS = 8


@dataclass(frozen=True)
class WordLookup:
    """A look for texts: those that hold all terms of one of these parts, and of no part of the looks before."""

    parts: tuple[tuple[WantedTerm, ...], ...]
    but: tuple[tuple[WantedTerm, ...], ...]


class HeldWords(Protocol):
    """Words that a text holds; of several texts, those that any of them holds."""

    def has_words(self, term: WantedTerm) -> bool:
        """Tell whether the words themselves are there, one behind the other."""

    def has_stem(self, term: WantedTerm) -> bool:
        """Tell whether a word of the same stem is there."""


class WordRanking:
    """Ranking of texts by some terms.

    Args:
        terms: of a query; at least one is not optional.
    """

    def __init__(self, terms: Sequence[WantedTerm]) -> None:
        self.terms = tuple(terms)
        self.content = tuple(term for term in terms if not term.is_optional)
        # Ends that meet: the last word of one term, and the first of the next.
        self.pairs = tuple(
            WantedTerm((one.words[-1], other.words[0]))
            for one, other in pairwise(terms)
            if not one.is_prefix and not other.is_prefix
        )
        weights = sum(OPTIONAL if term.is_optional else 1.0 for term in terms)
        self.best = weights + ADJACENT * len(self.pairs)

    def lookups(self) -> Iterator[WordLookup]:
        """Yield the looks for texts, best ones first: for those that hold all terms, all but one, any."""
        before: tuple[tuple[WantedTerm, ...], ...] = (self.content,)
        yield WordLookup(before, ())
        if 2 < len(self.content) <= _MOST_PARTS:
            but_one = tuple(combinations(self.content, len(self.content) - 1))
            yield WordLookup(but_one, before)
            before = but_one
        if len(self.content) > 1:
            yield WordLookup(tuple((term,) for term in self.content), before)

    def score(self, held: HeldWords, count: int) -> float:
        """Return the score, above 0 up to 1; 0 for a text that holds none but optional terms.

        Args:
            held: what the text holds.
            count: of all its different words and stems.
        """
        worth, content = 0.0, 0
        for term in self.terms:
            own = EXACT if held.has_words(term) else BY_STEM if held.has_stem(term) else 0.0
            worth += (OPTIONAL if term.is_optional else 1.0) * own
            content += bool(own) and not term.is_optional
        if not content:
            return 0.0
        worth += ADJACENT * sum(held.has_words(pair) for pair in self.pairs)
        return (content - 1 + worth / self.best * (LONG / (LONG + count))) / len(self.content)
