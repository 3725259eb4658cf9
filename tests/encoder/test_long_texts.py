"""Tokens of texts that strangers make long: open_clip's own where they fit, and never in more than linear time."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor

import open_clip
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

from encoder_svc.model import BRIEF_TEXT_CHARS
from encoder_svc.models.tokens import Tokens
from tests.support.hugging_face import KINDS, open_clip_tokenizer

CONTEXTS = (8, 77)
TOKENIZERS = {context: SimpleTokenizer(context_length=context) for context in CONTEXTS}
TOKENS = {context: Tokens(tokenizer) for context, tokenizer in TOKENIZERS.items()}
LETTERS = st.text(st.sampled_from("abeinrst "), max_size=400)
ANY = st.text(max_size=120)
PIECES = st.lists(
    st.sampled_from(
        [
            *(
                "&amp;",
                "&#39;",
                "&lt;",
                "Ã©",
                "ÃƒÂ©",
                "\n",
                " ",
                "  ",
                "\u0301",
                "\u0316",
                "é",
                "'s",
                "日本",
                "👩",
                "<b>",
            ),
            *("<start_of_text>", "12", "ﬃ", "\xa0", "a", "ing", "&#x41;", "!?", "_"),
        ]
    ),
    max_size=60,
).map("".join)


class ForgottenAtOnce(dict[str, str]):
    """Words that another thread forgets as soon as it was asked whether they are known."""

    def __contains__(self, word: object) -> bool:
        known = super().__contains__(word)
        self.clear()
        return known


def test_words_that_another_thread_forgets_meanwhile_are_made_anew() -> None:
    tokenizer = SimpleTokenizer()
    tokens = Tokens(tokenizer)
    tokenizer.cache = ForgottenAtOnce(tokenizer.cache)
    first, again = tokens("cat")[0], tokens("cat")[0]
    assert first.tolist() == again.tolist() == TOKENIZERS[77](["cat"])[0].tolist()


@pytest.mark.parametrize("context", CONTEXTS)
@settings(max_examples=40, deadline=None)
@given(text=st.one_of(LETTERS, ANY, PIECES))
@example("a" * 700)
@example("cat\n \n\n dog")
@example("x" + "\u0316\u0301" * 300)
def test_tokens_are_open_clips_own(context: int, text: str) -> None:
    mine, cut = TOKENS[context](text)
    theirs = TOKENIZERS[context]([text])[0]
    assert torch.equal(mine, theirs)
    assert cut is (len(TOKENIZERS[context].encode(text)) + 2 > context)


def test_long_words_become_the_same_pieces_by_either_way() -> None:
    rng, tokenizer = random.Random(7), SimpleTokenizer()
    for alphabet in ("ab", "abcdefghijklmnopqrstuvwxyz", "theinrs", "éèüß", "日本語中文", "!?.,-", "👩🎉❤"):
        for length in (65, 200):
            word = "".join(rng.choice(alphabet) for _ in range(length))
            assert torch.equal(TOKENS[77](word)[0], tokenizer([word])[0])


STRANGE = {
    "ten words of a thousand letters": " ".join("abcdefghij" * 100 for _ in range(10)),
    "one word": "qwertzuiop" * 1000,
    "blank lines": "\n" * 9999 + "a",
    "lines of spaces": "\n   " * 2499 + "\na",
    "marks": "a" + "\u0345\u0301\u0316" * 3333,
    "sorted marks": "a" + "\u0345" * 3000 + "\u0301" * 3000 + "\u0316" * 3000,
    "entities": "&amp;amp;" * 1111,
    "ampersands": "&" * 10_000,
    "mended twice": "ÃƒÂ©" * 2500,
    "a character's number of 5,000 digits": "&#" + "9" * 5000 + ";",
    "the same, hidden": "&amp;#" + "0" * 5000 + "65;",
}


@pytest.mark.parametrize("kind", STRANGE)
def test_the_strangest_text_costs_no_more_than_many_ordinary_ones(kind: str) -> None:
    """In the time of this thread: others' work on the machine is not counted."""
    tokens = TOKENS[77]
    ordinary = "a photo of a cat and of a dog " * 330
    tokens(ordinary)
    begun = time.thread_time()
    for _ in range(20):
        tokens(ordinary)
    usual = time.thread_time() - begun
    begun = time.thread_time()
    ids, _ = tokens(STRANGE[kind])
    assert ids.shape == (77,)
    assert time.thread_time() - begun < max(0.5, 20 * usual)


def test_what_is_seen_between_blank_lines_is_the_same() -> None:
    assert torch.equal(TOKENS[77](STRANGE["blank lines"])[0], TOKENS[77]("a")[0])
    assert torch.equal(TOKENS[77](STRANGE["lines of spaces"])[0], TOKENS[77]("a")[0])


def test_the_tokenizer_of_models_by_tag_is_the_one_that_is_read_word_by_word() -> None:
    tokens = Tokens(open_clip.get_tokenizer("ViT-B-32"))
    words = tokens._tokens.__self__  # type: ignore[attr-defined]  # a bound method of what reads
    assert type(words).__name__ == "_Words"
    assert tokens.brief_chars == BRIEF_TEXT_CHARS


Both = tuple[HFTokenizer, Tokens]
CONTEXT = 12
TOLD = st.lists(
    st.sampled_from(
        [
            "the",
            "thing",
            "cat",
            "a red",
            "Cat",
            "inging",
            "éa",
            "日本",
            "&amp;",
            "</s>",
            "[SEP]",
            "<s>",
            "<pad>",
            " ",
            "_",
            "\n",
            "\u0301",
        ]
    ),
    max_size=24,
).map(" ".join)


@pytest.fixture(scope="module", params=list(KINDS))
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """One of transformers' tokenizers by open_clip, and ours over another of the same."""
    folder = tmp_path_factory.mktemp("tokenizer")
    theirs, mine = (open_clip_tokenizer(request.param, folder, CONTEXT) for _ in range(2))
    return theirs, Tokens(mine)


@settings(max_examples=30, deadline=None)
@given(text=st.one_of(TOLD, ANY))
def test_tokens_of_transformers_tokenizers_are_open_clips_own(both: Both, text: str) -> None:
    theirs, tokens = both
    mine, cut = tokens(text)
    assert torch.equal(mine, theirs([text])[0])
    if "<pad>" not in text and not theirs.strip_sep_token:
        whole = theirs([text], context_length=CONTEXT + 600)[0]
        assert cut is (int((whole != theirs.tokenizer.pad_token_id).sum()) > CONTEXT)


def test_transformers_tokenizers_answer_many_threads_at_once_and_cost_no_more_than_linear_time(both: Both) -> None:
    """Without a lock, which short texts would wait for: no call changes what the Rust code keeps."""
    _, tokens = both
    assert tokens.brief_chars == BRIEF_TEXT_CHARS
    short, ordinary = "the cat", "a photo of a cat and of a dog " * 330
    known, known_long = tokens(short)[0].tolist(), tokens(ordinary)[0].tolist()
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(tokens, [short, ordinary] * 10))
    assert [row.tolist() for row, _ in answers] == [known, known_long] * 10
    assert [cut for _, cut in answers] == [False, True] * 10
    begun = time.thread_time()
    for _ in range(10):
        tokens(ordinary)
    usual = time.thread_time() - begun
    for text in STRANGE.values():
        begun = time.thread_time()
        tokens(text)
        assert time.thread_time() - begun < max(0.5, 10 * usual)
