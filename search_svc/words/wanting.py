"""Demands of a query on the words of a text, in the language of a collection."""

from dataclasses import dataclass

from search_svc.words.languages import forms, is_stop_word
from search_svc.words.queries import Term, WordQuery
from search_svc.words.tokens import MAX_PREFIX_CHARS, STEM


@dataclass(frozen=True)
class WantedTerm:
    """A term in the language of a collection. A text holds it exactly, or else by one of its stems.

    Args:
        words: that follow one another, without accents.
        is_prefix: the only word is the beginning of one.
        stems: any of these is enough, as they stand beside the words of a text. None for several words.
        is_optional: the term says little, and others say more: it selects nothing.
    """

    words: tuple[str, ...]
    is_prefix: bool = False
    stems: tuple[str, ...] = ()
    is_optional: bool = False

    @property
    def runs(self) -> tuple[str, ...]:
        """Runs that `TextWords.runs` has where the words follow one another; of four and more words, in most cases."""
        if len(self.words) <= 3:
            return (" ".join(self.words),)
        return tuple(" ".join(self.words[at : at + 3]) for at in range(len(self.words) - 2))


def wanted(query: WordQuery, language: str) -> tuple[WantedTerm, ...]:
    """Return what a query asks in a language, each term once."""
    terms = dict.fromkeys(_wanted(term, language) for term in query.terms)
    if all(term.is_optional for term in terms):
        return tuple(dict.fromkeys(WantedTerm(term.words, stems=term.stems) for term in terms))
    return tuple(terms)


def _wanted(term: Term, language: str) -> WantedTerm:
    pairs = [forms(word, language) for word in term.words]
    words = tuple(simple for simple, _ in pairs)
    if term.is_prefix:
        return WantedTerm((words[0][:MAX_PREFIX_CHARS],), is_prefix=True)
    if term.is_quoted or len(words) > 1:
        return WantedTerm(words)
    simple, other = pairs[0]
    stem = other or simple
    # A word that is its own stem stands for it. Whether the stem is such a word, it is asked itself.
    itself = (stem,) if stem != simple and forms(stem, language)[1] == "" else ()
    return WantedTerm(words, stems=(STEM + stem, *itself), is_optional=is_stop_word(simple, language))
