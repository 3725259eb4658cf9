"""Texts as the tokens of a model, cut to its context; whether they were cut is said."""

from __future__ import annotations

import re
import threading
from typing import Any, Final

import torch

# SimpleTokenizer remembers every word it ever saw: strangers' words must not fill the memory.
_MAX_REMEMBERED_WORDS: Final = 50_000
# open_clip's tokenizer needs the square of a word's length: 10,000 random letters without a space cost it 6 s. No
# context is as long as what a thousand letters leave.
_LONG_WORD: Final = re.compile(r"(\S{1000})\S+")


class Tokens:
    """One of open_clip's tokenizers, for many threads."""

    def __init__(self, tokenizer: Any) -> None:
        self.context = int(tokenizer.context_length)
        self._tokenizer = tokenizer
        # Tokenizers keep state between calls: Rust ones refuse a second thread, open_clip's own remembers words.
        self._one_at_a_time = threading.Lock()
        self._special_words = dict(getattr(tokenizer, "cache", {}))
        inner = getattr(tokenizer, "tokenizer", None)
        self._padding = getattr(inner, "pad_token_id", None) or 0
        # In "clips" mode the last place holds the class token in any case.
        self._has_class_token = getattr(tokenizer, "tokenizer_mode", "") == "clips"
        ends = {getattr(inner, "eos_token_id", None), getattr(inner, "sep_token_id", None)}
        self._padding_means_end = self._padding not in ends and not self._has_class_token

    def __call__(self, text: str) -> tuple[torch.Tensor, bool]:
        """int64 of shape (context,), and whether the text was longer than that."""
        text, shortened = _LONG_WORD.subn(r"\1", text)
        with self._one_at_a_time:
            longer = self._tokenize(text, self.context + 1)
            if self._padding_means_end and int(longer[self.context]) == self._padding:
                # It fits with one place to spare: without that place it is the same.
                tokens, cut = longer[: self.context], False
            else:
                tokens = self._tokenize(text, self.context)
                cut = self._is_cut(tokens, longer)
            if len(getattr(self._tokenizer, "cache", ())) > _MAX_REMEMBERED_WORDS:
                self._tokenizer.cache = dict(self._special_words)
        return tokens, cut or bool(shortened)

    def _tokenize(self, text: str, context: int) -> torch.Tensor:
        tokens: torch.Tensor = self._tokenizer([text], context_length=context)[0]
        return tokens

    def _is_cut(self, tokens: torch.Tensor, longer: torch.Tensor) -> bool:
        # With one more place, a text that fits is the same and gets one more padding; one that was cut has a word where
        # its end mark stood.
        if self._has_class_token:
            return bool((tokens[:-1] != longer[: self.context - 1]).any())
        return bool((tokens != longer[: self.context]).any()) or int(longer[self.context]) != self._padding
