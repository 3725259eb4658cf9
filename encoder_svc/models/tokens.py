"""Tokens of texts, cut to a model's context.

The time for one text grows with its length and no faster, whatever its words are. In open_clip's own code it grows with
the square of a word's length, and in its cleaning with the square of a run of combining marks.
"""

from __future__ import annotations

import threading
from typing import Any, Final

import regex  # type: ignore[import-untyped]  # it comes with open_clip, and without types
import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from tokenizers.models import BPE

from encoder_svc.model import BRIEF_TEXT_CHARS

# SimpleTokenizer remembers every word it ever saw: strangers' words must not fill the memory.
_MAX_REMEMBERED_WORDS: Final = 50_000
# Words up to here are merged by open_clip itself and remembered; longer ones by Rust code that makes the same of them.
_LONG_WORD: Final = 64
# Shorter texts hold nobody up.
_HARMLESS: Final = 500
# Unicode's normal form sorts marks in a row by insertion. No context is as long as what so many marks leave.
_MARKS: Final = regex.compile(r"(\p{M}{1000})\p{M}+")
# Lines are mended one by one, also those without a character that is seen.
_BLANK_LINES: Final = regex.compile(r"\n[ \t\r\n]*\n")


class Tokens:
    """A tokenizer of open_clip, for many threads. Nobody else may call that tokenizer from then on."""

    def __init__(self, tokenizer: Any) -> None:
        self.context = int(tokenizer.context_length)
        made = _tokens_of(tokenizer)
        self._tokens = made.tokens
        self.brief_chars = 0 if isinstance(made, _Whole) else BRIEF_TEXT_CHARS
        """The most characters of a text whose tokens are made at once, without waiting for another thread."""

    def __call__(self, text: str) -> tuple[torch.Tensor, bool]:
        """Return a text's tokens, int64 of shape (context,), and whether the text was longer than that."""
        if len(text) > _HARMLESS:
            text = _MARKS.sub(r"\1", _BLANK_LINES.sub("\n", text))
        try:
            return self._tokens(text, self.context)
        except ValueError:
            # Python's html.unescape fails on a character's number of thousands of digits, and open_clip with it.
            return self._tokens(text.replace("&", " "), self.context)


def _tokens_of(tokenizer: Any) -> _Words | _Pieces | _Whole:
    if type(tokenizer) is SimpleTokenizer and tokenizer.reduction_fn is None:
        return _Words(tokenizer)
    inner: Any = getattr(tokenizer, "tokenizer", None)
    is_rust = type(tokenizer) is HFTokenizer and getattr(inner, "backend_tokenizer", None) is not None
    if is_rust and inner.padding_side == inner.truncation_side == "right":
        return _Pieces(tokenizer)
    return _Whole(tokenizer)


class _Words:
    """open_clip's own tokenizer, called word by word and no further than the context reaches."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._special_words = dict(tokenizer.cache)
        self._long_words: Any = BPE(
            vocab=tokenizer.encoder, merges=list(tokenizer.bpe_ranks), end_of_word_suffix="</w>", cache_capacity=0
        )

    def tokens(self, text: str, context: int) -> tuple[torch.Tensor, bool]:
        """Return what `Tokens.__call__` returns, for a context of `context` tokens."""
        tokenizer = self._tokenizer
        most = context - 2
        ids: list[int] = []
        for match in tokenizer.pat.finditer(tokenizer.clean_fn(text)):
            ids += self._ids(match.group())
            if len(ids) > most:
                break
        cut = len(ids) > most
        marked = [tokenizer.sot_token_id, *ids[:most], tokenizer.eot_token_id]
        if len(tokenizer.cache) > _MAX_REMEMBERED_WORDS:
            tokenizer.cache = dict(self._special_words)
        return torch.tensor(marked + [0] * (context - len(marked)), dtype=torch.long), cut

    def _ids(self, word: str) -> list[int]:
        tokenizer = self._tokenizer
        spelled = "".join(tokenizer.byte_encoder[byte] for byte in word.encode())
        if len(spelled) > _LONG_WORD:
            return [token.id for token in self._long_words.tokenize(spelled)]
        # open_clip looks twice for a word that it remembers, and another thread may forget it in between.
        pieces = tokenizer.cache.get(spelled) or tokenizer.bpe(spelled)
        return [tokenizer.encoder[piece] for piece in pieces.split(" ")]


class _Pieces:
    """A tokenizer of transformers that is Rust code. It is called once for all tokens; they are cut and padded here.

    transformers itself would tell the Rust code for each text where to cut. The Rust code refuses that while another
    thread is inside. The end of the text would also need a second call.
    """

    def __init__(self, tokenizer: Any) -> None:
        inner = tokenizer.tokenizer
        self._clean = tokenizer.clean_fn
        self._rust = inner.backend_tokenizer
        self._rust.no_truncation()
        self._rust.no_padding()
        self._rust.encode_special_tokens = inner.split_special_tokens
        self._padding = int(inner.pad_token_id)
        self._dropped = int(inner.sep_token_id) if tokenizer.strip_sep_token else None
        self._in_clips_mode = tokenizer.tokenizer_mode == "clips"
        self._marks = [inner.bos_token_id, inner.eos_token_id, inner.cls_token_id]

    def tokens(self, text: str, context: int) -> tuple[torch.Tensor, bool]:
        """Return what `Tokens.__call__` returns, for a context of `context` tokens."""
        made = self._rust.encode_batch_fast([self._clean(text)], add_special_tokens=not self._in_clips_mode)[0]
        ids: list[int] = made.ids
        if self._in_clips_mode:
            # The last place holds the class token in any case.
            begin, end, last = self._marks
            most = context - 3
            row = [begin, *ids[:most], end]
            return torch.tensor([*row, *[self._padding] * (context - 1 - len(row)), last]), len(ids) > most
        cut = len(ids) > context
        if cut:
            after = _marks_at_end(made.special_tokens_mask)
            ids = ids[: context - after] + ids[len(ids) - after :]
        row = [0 if one == self._dropped else one for one in ids]
        return torch.tensor(row + [self._padding] * (context - len(row)), dtype=torch.long), cut


def _marks_at_end(mask: list[int]) -> int:
    return next((count for count, special in enumerate(reversed(mask)) if not special), 0)


class _Whole:
    """Any other tokenizer. It is called as it is, for one text at a time, because it may keep state between calls."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._one_at_a_time = threading.Lock()
        inner = getattr(tokenizer, "tokenizer", None)
        self._padding = getattr(inner, "pad_token_id", None) or 0
        # In "clips" mode the last place holds the class token in any case.
        self._has_class_token = getattr(tokenizer, "tokenizer_mode", "") == "clips"
        ends = {getattr(inner, "eos_token_id", None), getattr(inner, "sep_token_id", None)}
        self._padding_means_end = self._padding not in ends and not self._has_class_token

    def tokens(self, text: str, context: int) -> tuple[torch.Tensor, bool]:
        """Return what `Tokens.__call__` returns, for a context of `context` tokens."""
        with self._one_at_a_time:
            longer = self._tokenize(text, context + 1)
            if self._padding_means_end and int(longer[context]) == self._padding:
                # It fits with one place to spare: without that place it is the same.
                return longer[:context], False
            tokens = self._tokenize(text, context)
        # With one more place, a text that fits is the same and gets one more padding; one that was cut has a word where
        # its end mark stood.
        if self._has_class_token:
            return tokens, bool((tokens[:-1] != longer[: context - 1]).any())
        return tokens, bool((tokens != longer[:context]).any()) or int(longer[context]) != self._padding

    def _tokenize(self, text: str, context: int) -> torch.Tensor:
        tokens: torch.Tensor = self._tokenizer([text], context_length=context)[0]
        return tokens
