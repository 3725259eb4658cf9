"""Languages of collections: what a word's stem is, and which words say little."""

import threading
from functools import cache, lru_cache
from typing import Protocol

import snowballstemmer

from search_svc.model import Definition
from search_svc.words.stop_words import STOP_WORDS
from search_svc.words.tokens import fold

DEFAULT_LANGUAGE = Definition.language
NO_LANGUAGE = "none"
"""Words are found as they are written."""

# ISO 639-1 codes, and the names of Snowball's stemmers.
_STEMMERS = {
    "ar": "arabic",
    "ca": "catalan",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "et": "estonian",
    "eu": "basque",
    "fi": "finnish",
    "fr": "french",
    "ga": "irish",
    "hi": "hindi",
    "hu": "hungarian",
    "hy": "armenian",
    "id": "indonesian",
    "it": "italian",
    "lt": "lithuanian",
    "ne": "nepali",
    "nl": "dutch",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
    "yi": "yiddish",
}
LANGUAGES = (*_STEMMERS, NO_LANGUAGE)
# Shorter ones are their own stem.
_SHORTEST = 3
_REMEMBERED = 32_768


class _Stemmer(Protocol):
    def stemWord(self, word: str) -> str: ...


# A stemmer keeps its place in the word in itself: one word at a time.
_lock = threading.Lock()


@cache
def _stemmer(language: str) -> _Stemmer:
    made: _Stemmer = snowballstemmer.stemmer(_STEMMERS[language])
    return made


@lru_cache(maxsize=_REMEMBERED)
def forms(word: str, language: str) -> tuple[str, str]:
    """Return a word without its accents, and its stem; "" where the stem is the word itself.

    Args:
        word: as `words_of` returns it.
        language: one of `LANGUAGES`.
    """
    simple = fold(word)
    if language not in _STEMMERS or len(word) < _SHORTEST or (word.isascii() and not word.isalpha()):
        return simple, ""
    with _lock:
        stem = fold(_stemmer(language).stemWord(word))
    return simple, "" if stem == simple else stem


def is_stop_word(simple: str, language: str) -> bool:
    """Tell whether a word without accents says little in a language."""
    return simple in STOP_WORDS.get(language, frozenset())
