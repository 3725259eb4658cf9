"""Words: how texts are cut, what their stems are, and how queries are read."""

# ruff: noqa: RUF001 - letters of other scripts are meant where they look like Latin ones.

import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_svc.model import Caption, FieldType, Item
from search_svc.postgres.words import vector_text
from search_svc.words.languages import LANGUAGES, forms
from search_svc.words.queries import MAX_QUERY_WORDS, Term, read_words
from search_svc.words.stop_words import STOP_WORDS
from search_svc.words.texts import MAX_LETTERS, MAX_PLACES, MAX_WORDS, text_words, words_of_item
from search_svc.words.tokens import MAX_PREFIX_CHARS, MAX_WORD_CHARS, fold, words_of
from search_svc.words.wanting import wanted
from tests.search.strategies import thorough
from tests.search.support import definition


def cut(text: str) -> list[str]:
    return [fold(word) for word in words_of(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A dog, running!", "a dog running"),
        ("Don's hat isn't O'Brien's", "don hat isnt o brien"),
        ("l'arbre qu\u2019il dell'arte rock'n'roll", "l arbre qu il dell arte rock n roll"),
        ("3.5 m, 1,870; f/2.8 x86_64", "3 5 m 1 870 f 2 8 x86 64"),
        ("Café Straße Łódź Ærø Þór", "cafe strasse lodz aero thor"),
        ("CAFE\u0301 ﬁn ½ ㎏ ｆｕｌｌ", "cafe fin 1 2 kg full"),
        ("İstanbul ISTANBUL ı", "istanbul istanbul i"),
        ("Ёлка мой ΣΊΣΥΦΟΣ", "елка мой σισυφοσ"),
        ("日本語 カメラ ｶﾞ がか", "日 本 語 カ メ ラ ガ が か"),
        ("한국어 ภาษา", "한 국 어 ภ า ษ า"),
        ("हिन्दी שָׁלוֹם كِتَاب", "हिन्दी שלום كتاب"),
        ("👩🏽\u200d🚀 🇩🇪🇫🇷 ❤\ufe0f 1\ufe0f\u20e3 👍", "👩 🚀 🇩🇪 🇫🇷 ❤ 1 👍"),
        ("\u200fa\u202eb\u2066c\u200bd so\u00adft \ufeffe", "abc d soft e"),
        ("rgb(1,2) C++ a&b|c! foo@bar.com", "rgb 1 2 c a b c foo bar com"),
        (" \t\n.,;!?&|()'\"*:-_€", ""),
        ("", ""),
    ],
)
def test_texts_are_cut(text: str, words: str) -> None:
    assert cut(text) == words.split()


def test_long_words_and_texts_are_cut() -> None:
    assert cut("x" * 10_000) == ["x" * MAX_WORD_CHARS]
    assert cut("\u0301" * 10_000) == []
    assert len(text_words(["語" * 20_000], "en").words) == MAX_WORDS
    many = text_words(["dog cat " * 300], "en")
    assert len(many.places["dog"]) == MAX_PLACES
    assert many.words[2 * MAX_PLACES :] == ("",) * (600 - 2 * MAX_PLACES)


@given(st.text())
@thorough
def test_any_text_is_cut_into_plain_words(text: str) -> None:
    words = cut(text)
    assert all(words)
    for word in words:
        # Cut again it is the same, so what is found is found by its own words.
        assert "".join(cut(word)) == word
        assert not set(word) & set(" '\"*=~\\:&|!()<>")
        assert len(word.encode()) < 2_048


def test_every_character_is_of_a_kind() -> None:
    """Letters and digits of any script are words; a look at all of them."""
    for code in range(0, sys.maxunicode + 1, 7):
        char = chr(code)
        if unicodedata.category(unicodedata.normalize("NFKC", char)[0]) in {"Lu", "Ll", "Lt", "Lo", "Nd"}:
            assert cut(char), hex(code)


def test_stems() -> None:
    assert forms("running", "en") == ("running", "run")
    assert forms("dog", "en") == ("dog", "")
    assert forms("running", "none") == ("running", "")
    assert forms("häuser", "de") == ("hauser", "haus")
    assert forms("b2bs", "en") == ("b2bs", "")
    for language in LANGUAGES:
        assert forms("x", language) == ("x", "")
        assert forms("überraschungen", language)[0] == "uberraschungen"


def test_stop_words_are_as_words_are_cut() -> None:
    assert set(STOP_WORDS) <= set(LANGUAGES)
    for words in STOP_WORDS.values():
        assert words
        assert all(cut(word) == [word] for word in words)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("old bridge", [Term(("old",)), Term(("bridge",))]),
        ('"Old bridge" new', [Term(("old", "bridge"), is_quoted=True), Term(("new",))]),
        ("\u201cold bridge\u201d", [Term(("old", "bridge"), is_quoted=True)]),
        ('"old bridge', [Term(("old", "bridge"), is_quoted=True)]),
        ('a"b" c', [Term(("a",)), Term(("b",), is_quoted=True), Term(("c",))]),
        ("bri*", [Term(("bri",), is_prefix=True)]),
        ("bri * bri**x", [Term(("bri",)), Term(("bri", "x"))]),
        ("wide-ang*", [Term(("wide",)), Term(("ang",), is_prefix=True)]),
        ('"bri*"', [Term(("bri",), is_quoted=True)]),
        ("3.5 日本", [Term(("3", "5")), Term(("日", "本"))]),
        ("a & b | !c:* <-> 'd' \\", [Term(("a",)), Term(("b",)), Term(("c",), is_prefix=False), Term(("d",))]),
        ("Don's", [Term(("don",))]),
    ],
)
def test_queries_are_read(text: str, terms: list[Term]) -> None:
    assert list(read_words(text).terms) == terms


@pytest.mark.parametrize("text", ["", "& | !", '""', "***", "\u200f\u200e", "€"])
def test_a_query_without_words_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="holds no word"):
        read_words(text)


def test_a_query_of_too_many_words_is_refused() -> None:
    read_words("a " * MAX_QUERY_WORDS)
    with pytest.raises(ValueError, match=f"has {MAX_QUERY_WORDS + 1} words, and the limit is {MAX_QUERY_WORDS}"):
        read_words("語" * (MAX_QUERY_WORDS + 1))


def test_a_query_of_too_many_letters_is_refused() -> None:
    read_words(" ".join(["x" * 9_000] * 10))
    with pytest.raises(ValueError, match="has words of 2200 letters, and the limit is 2000"):
        read_words(" ".join(["x" * 9_000] * 11))


def test_of_very_long_texts_so_much_counts() -> None:
    assert text_words(["ab cd ef"], "en", 4).words == ("ab", "cd")
    fields = {f"f{at}": FieldType.TEXT for at in range(16)}
    metadata = json.dumps(
        {field: f"{field} " + " ".join(f"{at}{'x' * 200}" for at in range(9_000)) for field in fields}
    )
    item = Item("a", caption=Caption("the first", 0, 0, False, ""), metadata=metadata)
    texts = words_of_item(item, definition(indexes=fields))
    assert texts[0].words == ("the", "first")
    assert texts[1].words[0] == "f0"
    assert MAX_LETTERS - MAX_WORD_CHARS < sum(text.letters for text in texts) <= MAX_LETTERS
    assert len(vector_text(texts).encode()) < 1 << 20


def test_little_words_are_optional_beside_others() -> None:
    def optional(text: str, language: str = "en") -> dict[str, bool]:
        return {" ".join(term.words): term.is_optional for term in wanted(read_words(text), language)}

    assert optional("the red dog") == {"the": True, "red": False, "dog": False}
    assert optional("the who") == {"the": False, "who": False}
    assert optional('"the who" live') == {"the who": False, "live": False}
    assert optional("the dog", "none") == {"the": False, "dog": False}
    assert optional("der Hund the", "de") == {"der": True, "hund": False, "the": False}


def test_a_stem_is_wanted_as_it_is_kept() -> None:
    (dogs,) = wanted(read_words("dogs"), "en")
    assert (dogs.words, dogs.stems) == (("dogs",), ("~dog", "dog"))
    (dog,) = wanted(read_words("dog Dog DOG"), "en")
    assert (dog.words, dog.stems) == (("dog",), ("~dog",))
    assert wanted(read_words('"dogs"'), "en")[0].stems == ()
    assert wanted(read_words("x" * 100 + "*"), "en")[0].words == ("x" * MAX_PREFIX_CHARS,)
