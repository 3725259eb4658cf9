"""Queries in words, as people write them.

old bridge          both words, in any order, or words of the same stem
"old bridge"        exactly these words, one behind the other
bri*                words that begin so
wide-angle, 3.5     what is written without a space between stands one behind the other, as in quotation marks
"""

import re
from dataclasses import dataclass

from search_svc.words.tokens import cut, kinds, normal

MAX_QUERY_WORDS = 128
MAX_QUERY_LETTERS = 2_000
"""Characters of all words together. PostgreSQL takes a query of a megabyte, and a word stands in it several times."""
MAX_WORDS_CHARS = 10_000
"""Characters of a query; who asks sees to it."""
# In quotation marks, the last of which may be missing; or up to the next space or quotation mark.
_PART = re.compile('"[^"]*"?|[^ "]+')


@dataclass(frozen=True)
class Term:
    """A part of a query: a word, or words that follow one another. Words are as `words_of` returns them."""

    words: tuple[str, ...]
    is_quoted: bool = False
    is_prefix: bool = False


@dataclass(frozen=True)
class WordQuery:
    """Terms that are asked for, whatever the language of the collection."""

    terms: tuple[Term, ...]


def read_words(text: str) -> WordQuery:
    """Read a query.

    Raises:
        ValueError: it holds no word, or more than the limits above; with a message for the caller.
    """
    plain = normal(text)
    its_kinds = kinds(plain)
    terms: list[Term] = []
    for part in _PART.finditer(its_kinds):
        begin = part.start()
        is_quoted = part[0].startswith('"')
        words = list(cut(plain[begin : part.end()], part[0]))
        is_prefix = bool(words) and not is_quoted and part[0][words[-1][1] :].startswith("*")
        whole = words[:-1] if is_prefix else words
        if whole:
            terms.append(Term(tuple(word for word, _ in whole), is_quoted))
        if is_prefix:
            terms.append(Term((words[-1][0],), is_prefix=True))
    count = sum(len(term.words) for term in terms)
    if not count:
        raise ValueError("holds no word: name at least one letter, digit or emoji")
    if count > MAX_QUERY_WORDS:
        raise ValueError(f"has {count} words, and the limit is {MAX_QUERY_WORDS}: ask for fewer")
    letters = sum(len(word) for term in terms for word in term.words)
    if letters > MAX_QUERY_LETTERS:
        raise ValueError(f"has words of {letters} letters, and the limit is {MAX_QUERY_LETTERS}: ask for fewer")
    return WordQuery(tuple(terms))
