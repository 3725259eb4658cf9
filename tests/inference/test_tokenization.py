"""What decides a tokenizer's tokens beside its vocabulary is named, and nothing else. Names are contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, BertTokenizer, CTRLTokenizer

import lensmesh_shapes
from lensmesh_inference.digest import json_digest
from lensmesh_inference.tokenization import is_uncased_bert, tokenization
from tests.support.hugging_face import roberta_like, t5_like, wrapped

GOLDEN = "20aa0190e72e52e945c39226c66e863341d084cc654e75ba9d0a829e061c9c1e"
SWAPPED = [("t", "h"), ("i", "n"), ("e", "r"), ("in", "g"), ("th", "e"), ("a", "n"), ("c", "a"), ("ca", "t")]


def named(made: Tokenizer) -> str:
    return json_digest(tokenization(wrapped(made)))


def test_the_name_is_the_same_for_equal_tokenizers_and_stays() -> None:
    assert named(roberta_like()) == named(roberta_like()) == GOLDEN


def test_everything_that_changes_tokens_changes_the_name() -> None:
    lower, words, marks, added, merges = (roberta_like() for _ in range(5))
    lower.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    marks.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 2), trim_offsets=False)
    added.add_tokens([AddedToken("cat", single_word=True)])
    merges = roberta_like(SWAPPED)
    assert sorted(merges.get_vocab()) == sorted(roberta_like().get_vocab())
    scores = t5_like()
    state = json.loads(scores.to_str())
    state["model"]["vocab"][-1][1] = -9.0
    others = [roberta_like(), lower, words, marks, added, merges, t5_like(), Tokenizer.from_str(json.dumps(state))]
    assert len({named(one) for one in others}) == len(others)
    left = wrapped(roberta_like())
    left.truncation_side = "left"
    assert json_digest(tokenization(left)) != GOLDEN


def test_a_call_changes_no_name() -> None:
    made = wrapped(roberta_like())
    made(["the cat"], max_length=4, padding="max_length", truncation=True)
    assert json_digest(tokenization(made)) == GOLDEN


def test_the_kind_whose_spaces_have_no_such_name() -> None:
    bundled = AutoTokenizer.from_pretrained(str(lensmesh_shapes.CLIP_DIR))
    assert is_uncased_bert(tokenization(bundled), bundled.get_vocab())
    words = bundled.get_vocab()
    cased = BertTokenizer(vocab=words, do_lower_case=False)
    assert cased.get_vocab() == words
    assert not is_uncased_bert(tokenization(cased), words)
    bundled.add_tokens(["unicorn"])
    assert not is_uncased_bert(tokenization(bundled), bundled.get_vocab())


def test_a_tokenizer_written_in_python_is_named_by_what_it_saves(tmp_path: Path) -> None:
    def made(merges: str) -> str:
        (tmp_path / "vocab.json").write_text(json.dumps({"<unk>": 0, "a": 1, "b": 2}))
        (tmp_path / "merges.txt").write_text(merges)
        load: Any = CTRLTokenizer
        return json_digest(tokenization(load(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))))

    one = made("#version: 0.2\na b\nb a\n")
    assert one == made("#version: 0.2\na b\nb a\n") != made("#version: 0.2\nb a\na b\n")
