"""Texts as the tokens of a model, cut to its context; whether they were cut is said.

The time for one text grows with its length and no faster, whatever its words are: open_clip's own code needs the square
of a word's length, and its cleaning the square of a run of combining marks.
"""

from __future__ import annotations

import threading
from typing import Any, Final

import regex  # type: ignore[import-untyped]  # it comes with open_clip, and without types
import torch
from open_clip.tokenizer import SimpleTokenizer
from tokenizers.models import BPE

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
    """One of open_clip's tokenizers, for many threads."""

    def __init__(self, tokenizer: Any) -> None:
        self.context = int(tokenizer.context_length)
        self._tokenizer = tokenizer
        self._words = _Words(tokenizer) if _is_plain(tokenizer) else None
        # Rust tokenizers keep what they are asked for between calls, and refuse a second thread.
        self._one_at_a_time = threading.Lock()
        inner = getattr(tokenizer, "tokenizer", None)
        self._padding = getattr(inner, "pad_token_id", None) or 0
        # In "clips" mode the last place holds the class token in any case.
        self._has_class_token = getattr(tokenizer, "tokenizer_mode", "") == "clips"
        ends = {getattr(inner, "eos_token_id", None), getattr(inner, "sep_token_id", None)}
        self._padding_means_end = self._padding not in ends and not self._has_class_token

    def __call__(self, text: str) -> tuple[torch.Tensor, bool]:
        """int64 of shape (context,), and whether the text was longer than that."""
        if len(text) > _HARMLESS:
            text = _MARKS.sub(r"\1", _BLANK_LINES.sub("\n", text))
        try:
            return self._tokens(text)
        except ValueError:
            # Python's html.unescape fails on a character's number of thousands of digits, and open_clip with it.
            return self._tokens(text.replace("&", " "))

    def _tokens(self, text: str) -> tuple[torch.Tensor, bool]:
        if self._words is not None:
            return self._words.tokens(text, self.context)
        with self._one_at_a_time:
            longer = self._tokenize(text, self.context + 1)
            if self._padding_means_end and int(longer[self.context]) == self._padding:
                # It fits with one place to spare: without that place it is the same.
                return longer[: self.context], False
            tokens = self._tokenize(text, self.context)
            return tokens, self._is_cut(tokens, longer)

    def _tokenize(self, text: str, context: int) -> torch.Tensor:
        tokens: torch.Tensor = self._tokenizer([text], context_length=context)[0]
        return tokens

    def _is_cut(self, tokens: torch.Tensor, longer: torch.Tensor) -> bool:
        # With one more place, a text that fits is the same and gets one more padding; one that was cut has a word where
        # its end mark stood.
        if self._has_class_token:
            return bool((tokens[:-1] != longer[: self.context - 1]).any())
        return bool((tokens != longer[: self.context]).any()) or int(longer[self.context]) != self._padding


class _Words:
    """open_clip's own tokenizer, word by word, no further than the context reaches."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._special_words = dict(tokenizer.cache)
        self._long_words: Any = BPE(
            vocab=tokenizer.encoder, merges=list(tokenizer.bpe_ranks), end_of_word_suffix="</w>", cache_capacity=0
        )

    def tokens(self, text: str, context: int) -> tuple[torch.Tensor, bool]:
        """As `Tokens.__call__`."""
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
        return [tokenizer.encoder[piece] for piece in tokenizer.bpe(spelled).split(" ")]


def _is_plain(tokenizer: Any) -> bool:
    """Whether a tokenizer is open_clip's own, cutting texts at their end as nearly all models do."""
    return type(tokenizer) is SimpleTokenizer and tokenizer.reduction_fn is None
