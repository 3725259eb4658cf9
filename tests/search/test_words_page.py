"""What docs/search.md says of words."""

import re
from pathlib import Path

from search_svc.words.languages import LANGUAGES, NO_LANGUAGE
from search_svc.words.queries import MAX_QUERY_LETTERS, MAX_QUERY_WORDS, read_words
from search_svc.words.texts import MAX_LETTERS, MAX_WORDS
from search_svc.words.tokens import MAX_PREFIX_CHARS, MAX_WORD_CHARS, fold, words_of

PAGE = (Path(__file__).parents[2] / "docs" / "search.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Words of captions")[2].partition("\n## ")[0]


def rows(head: str) -> list[list[str]]:
    """The rows of the table that begins so."""
    lines = SECTION.partition(f"| {head} |")[2].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_texts_are_cut_as_the_page_says() -> None:
    assert len(rows("text")) == 5
    for text, words in rows("text"):
        assert [fold(word) for word in words_of(text)] == words.split(", ")


def test_queries_of_the_page_are_read() -> None:
    terms = {query: read_words(query).terms for query, _ in rows("query")}
    assert len(terms) == 7
    assert [term.is_prefix for term in terms["bri*"]] == [True]
    assert [term.is_quoted for term in terms['"old bridge"']] == [True]
    assert [len(term.words) for term in terms["3.5, wide-angle, 京都"]] == [2, 2, 2]


def test_languages_and_limits_are_those_of_the_code() -> None:
    known = SECTION.partition("Known")[2].partition(".")[0]
    assert re.findall(r"`(\w+)`", known) == [language for language in LANGUAGES if language != NO_LANGUAGE]
    limits = " ".join(PAGE.partition("## Limits")[2].split())
    assert f"| {MAX_QUERY_WORDS}; {MAX_QUERY_LETTERS:,} letters |" in limits
    assert f"the first {MAX_WORD_CHARS}; {MAX_PREFIX_CHARS} of a beginning" in limits
    assert f"the first {MAX_WORDS:,}; of an item, {MAX_LETTERS:,} letters |" in limits
