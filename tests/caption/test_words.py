"""Pieces of a growing caption, joined, are the caption."""

from hypothesis import given
from hypothesis import strategies as st
from transformers import BertTokenizer

from caption_svc.model import Plan
from caption_svc.models.vocabulary import Vocabulary
from caption_svc.models.words import Deltas, settled
from tests.caption.fakes import WORDS

VOCABULARY = Vocabulary(BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)}))
PLAN = Plan("", (), 100, 1)


@given(st.lists(st.sampled_from([word for word in WORDS if not word.startswith("[")]), max_size=12))
def test_joined_pieces_are_the_whole(words: list[str]) -> None:
    ids = [WORDS.index(word) for word in words]
    pieces: list[str] = []
    deltas = Deltas(pieces.append)
    for count in range(1, len(ids) + 1):
        deltas.grow(settled(VOCABULARY.text(PLAN, ids[:count])))
    whole = VOCABULARY.text(PLAN, ids)
    deltas.grow(whole)
    assert "".join(pieces) == whole
    assert all(pieces)


def test_pieces_are_words_with_their_leading_space() -> None:
    ids = [WORDS.index(word) for word in ["a", "man", "'", "s", "hat"]]
    pieces: list[str] = []
    deltas = Deltas(pieces.append)
    for count in range(1, len(ids) + 1):
        deltas.grow(settled(VOCABULARY.text(PLAN, ids[:count])))
    deltas.grow(VOCABULARY.text(PLAN, ids))
    assert pieces == ["a", " man", "'s", " hat"]


def test_a_text_that_comes_again_adds_nothing() -> None:
    pieces: list[str] = []
    deltas = Deltas(pieces.append)
    for text in ("a red", "a", "a red", "a red cat"):
        deltas.grow(text)
    assert pieces == ["a red", " cat"]
