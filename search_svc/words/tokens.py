"""Cutting of texts into words, the same for what is stored and for what is asked.

A word is a run of letters and digits of any script, in lower case. So a query is never a syntax error: what is no word
separates words. Accents are taken off by `fold`.

    Don's hat, isn't it?     don, hat, isnt, it
    l'arbre, O'Brien         l, arbre; o, brien
    3.5 m, 1,870, f/2.8      3, 5, m; 1, 870; f, 2, 8
    Café, Straße, Łódź       cafe, strasse, lodz
    日本語, ภาษา, 한국어      a word for each character, with the marks that stand on it
    👩🏽‍🚀, 🇩🇪, ❤️              👩, 🚀; 🇩🇪; ❤
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import chain

MAX_WORD_CHARS = 200
"""A longer word is cut: it is found by its first characters."""
MAX_PREFIX_CHARS = 32
"""The longest beginning of a word that is asked for; a longer one is cut."""
STEM = "~"
"""Mark that a stem begins with where it stands beside words. No word does."""

_ZERO_WIDTH_SPACE, _ZERO_WIDTH_JOINER = "\u200b", "\u200d"
_APOSTROPHES = "'\u2019\u02bc\u0060\u00b4"
_QUOTES = '"\u201c\u201d\u201e\u201f\u00ab\u00bb\u300c\u300d\u300e\u300f'
# Kinds of characters: (a) letter, (d) digit, (m) mark, (1) a word alone, (s) symbol, (r) half a flag, (q) apostrophe,
# (j) joiner. Quotation mark, star and space matter to queries. All else is a dot, and separates words.
_WORD = re.compile("[ad][admj]*(?:q[ad][admj]*)*|1[mj]*|rr?|s")
_APOSTROPHE = re.compile(f"[{_APOSTROPHES}]")
_ASCII_WORD = re.compile("[a-z0-9]+")
_HAS_APOSTROPHE = re.compile("['`]")
# What stands behind the apostrophe of an English word, and is dropped.
_ENDINGS = frozenset({"s", "d", "m", "ll", "re", "ve"})
# Scripts that put no spaces between words, or hang endings onto them: first and last character of blocks.
_ALONE = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1100, 0x11FF),  # Hangul letters
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # radicals of Han
    (0x3005, 0x3007),
    (0x3021, 0x30FF),  # Hiragana, Katakana
    (0x3105, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xA960, 0xA97F),
    (0xAC00, 0xD7FF),  # Hangul
    (0xF900, 0xFAFF),
    (0x1B000, 0x1B16F),
    (0x20000, 0x3FFFF),
)
# Not seen: soft hyphens, marks of direction, variation selectors, tags of flags.
_UNSEEN = dict.fromkeys(
    chain(
        (0xAD, 0x61C, 0x180E, 0x200C, 0x200E, 0x200F, 0xFEFF, 0x20E3),
        range(0x202A, 0x202F),
        range(0x2060, 0x2070),
        range(0xFE00, 0xFE10),
        range(0xFFF9, 0xFFFC),
        range(0xE0000, 0xE0200),
    )
)
# Letters that Unicode does not take apart, and people write without what they have.
_PLAIN = {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "\u0131": "i", "ħ": "h"}
# A table does not remember more: a text may have every character there is.
_REMEMBERED = 20_000


class _Kinds(dict[int, str]):
    """Kinds of characters by their code points, for `str.translate`."""

    def __missing__(self, code: int) -> str:
        kind = _kind(chr(code))
        if len(self) < _REMEMBERED:
            self[code] = kind
        return kind


class _Folded(dict[int, str]):
    """Characters without their accents by their code points, for `str.translate`."""

    def __missing__(self, code: int) -> str:
        plain = _plain(chr(code))
        if len(self) < _REMEMBERED:
            self[code] = plain
        return plain


def _kind(char: str) -> str:
    code, category = ord(char), unicodedata.category(char)
    if char in _APOSTROPHES:
        return "q"
    if char in _QUOTES:
        return '"'
    if char == "*":
        return "*"
    if char == _ZERO_WIDTH_JOINER:
        return "j"
    if char.isspace() or char == _ZERO_WIDTH_SPACE:
        return " "
    if 0x1F1E6 <= code <= 0x1F1FF:
        return "r"
    if category[0] == "M":
        return "m"
    if category[0] in "LN":
        if any(first <= code <= last for first, last in _ALONE):
            return "1"
        return "a" if category[0] == "L" else "d"
    return "s" if category == "So" else "."


def _plain(char: str) -> str:
    if char == "й":
        # A letter of its own, unlike what Unicode takes it apart into.
        return char
    parts = unicodedata.normalize("NFKD", char)
    # Accents, and the vowel signs of Hebrew and Arabic. Marks of other scripts are as much as letters.
    kept = "".join(part for part in parts if not 10 <= (mark := unicodedata.combining(part)) <= 36 and mark < 200)
    return "".join(_PLAIN.get(part, part) for part in unicodedata.normalize("NFC", kept))


_KINDS, _FOLDED = _Kinds(), _Folded()


def normal(text: str) -> str:
    """Return a text in lower case, each character in one form, without what is not seen."""
    if text.isascii():
        return text.lower()
    seen = text.translate(_UNSEEN)
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())


def kinds(normal_text: str) -> str:
    """Return the kinds of a text's characters, as many as it has."""
    return normal_text.translate(_KINDS)


def cut(normal_text: str, its_kinds: str) -> Iterator[tuple[str, int]]:
    """Yield the words of a normal text and where each ends, with their accents: as stemmers want them."""
    for match in _WORD.finditer(its_kinds):
        word = normal_text[match.start() : match.end()]
        if "j" in match[0]:
            word = word.replace(_ZERO_WIDTH_JOINER, "")
        parts = [word] if "q" not in match[0] else _APOSTROPHE.split(word)
        if len(parts) > 1 and parts[-1] in _ENDINGS:
            del parts[-1]
        elif len(parts) > 1 and parts[-1] == "t" and parts[-2].endswith("n"):
            parts[-2:] = [parts[-2] + "t"]
        for part in parts:
            yield part[:MAX_WORD_CHARS], match.end()


def words_of(text: str) -> list[str]:
    """Return the words of a text in their order, in lower case and with their accents."""
    plain = normal(text)
    if plain.isascii() and not _HAS_APOSTROPHE.search(plain):
        # As most are, and several times as fast.
        found: list[str] = _ASCII_WORD.findall(plain)
        return found if len(plain) <= MAX_WORD_CHARS else [word[:MAX_WORD_CHARS] for word in found]
    return [word for word, _ in cut(plain, kinds(plain))]


def fold(word: str) -> str:
    """Return a word without its accents."""
    return word if word.isascii() else word.translate(_FOLDED)
