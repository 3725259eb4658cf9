"""Small tokenizers of transformers, of each kind that open_clip's models have, as folders that it loads them from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from open_clip.tokenizer import HFTokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

import lensmesh_shapes

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_PAIRS = [("t", "h"), ("i", "n"), ("e", "r"), ("th", "e"), ("in", "g"), ("a", "n"), ("c", "a"), ("ca", "t")]
_MARKS = ("<pad>", "</s>", "<s>", "<unk>", "<cls>")


def _bpe(alphabet: str, merges: list[tuple[str, str]], **more: Any) -> models.BPE:
    words = [*_MARKS, *dict.fromkeys(alphabet), *(one + two for one, two in merges)]
    return models.BPE({word: number for number, word in enumerate(words)}, merges, unk_token="<unk>", **more)


def roberta_like(merges: list[tuple[str, str]] = _PAIRS) -> Tokenizer:
    """Pairs of bytes, a mark before and one behind."""
    made = Tokenizer(_bpe("".join(sorted(pre_tokenizers.ByteLevel.alphabet())), merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 2))
    return made


def gemma_like() -> Tokenizer:
    """Pairs of characters over a whole text, spaces as a sign, a mark behind."""
    made = Tokenizer(_bpe(_LETTERS + "▁", [*_PAIRS, ("▁", "cat"), ("▁", "the")], fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" ", "▁")])
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return made


def t5_like() -> Tokenizer:
    """The likeliest pieces of each word, a mark behind."""
    pieces = [(one + two, -2.5) for one, two in _PAIRS] + [("▁cat", -2.0), ("▁", -3.0)]
    vocabulary = [*((mark, 0.0) for mark in _MARKS), *((letter, -4.0) for letter in _LETTERS), *pieces]
    made = Tokenizer(models.Unigram(vocabulary, unk_id=3, byte_fallback=False))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return made


def wrapped(made: Tokenizer) -> PreTrainedTokenizerFast:
    """As transformers loads it."""
    marks = dict(zip(("pad_token", "eos_token", "bos_token", "unk_token", "cls_token"), _MARKS, strict=True))
    make: Any = PreTrainedTokenizerFast
    loaded: PreTrainedTokenizerFast = make(tokenizer_object=made, sep_token="</s>", **marks)
    return loaded


KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "bert": (None, {}),
    "roberta": (roberta_like, {}),
    "gemma": (gemma_like, {"clean": "canonicalize"}),
    "t5": (t5_like, {"clean": "canonicalize", "strip_sep_token": True}),
    "clips": (roberta_like, {"tokenizer_mode": "clips"}),
}


def open_clip_tokenizer(kind: str, folder: Path, context: int) -> HFTokenizer:
    """One of `KINDS` as open_clip makes it; `folder` is written into."""
    make, arguments = KINDS[kind]
    if make is None:
        folder = lensmesh_shapes.CLIP_DIR
    else:
        wrapped(make()).save_pretrained(str(folder))
    return HFTokenizer(str(folder), context_length=context, **arguments)
