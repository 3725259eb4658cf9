"""The way from words to tokens and back, by a captioner's own tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caption_svc.model import Plan
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason


class Vocabulary:
    """The captioner's view of its tokenizer, which is a PreTrainedTokenizerBase."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._unknown_id = tokenizer.unk_token_id
        self._special_ids = frozenset(tokenizer.all_special_ids) - {self._unknown_id}
        # "man ' s" is how word pieces come out; byte pairs keep their own spaces.
        self._spaced = type(tokenizer.backend_tokenizer.model).__name__ == "WordPiece"
        # A first call settles padding and truncation inside, which no later call may change while another thread reads.
        self.encode("a")

    def encode(self, prompt: str) -> tuple[int, ...]:
        """Return the prompt's tokens, none for a blank one. Raises ``InvalidInput`` where it spells special tokens."""
        ids = tuple(self._tokenizer(prompt, add_special_tokens=False)["input_ids"]) if prompt.strip() else ()
        if self._special_ids.intersection(ids):
            raise InvalidInput(
                Reason.TEXT_INVALID,
                "options.prompt spells a special token of the model, such as [SEP]: take the brackets out.",
                field="options.prompt",
            )
        return ids

    def text(self, plan: Plan, generated: Sequence[int]) -> str:
        """Return the caption, prompt included, without special tokens.

        A prompt may have words that the model has no tokens for. Such a prompt stands in the caption as it was given,
        because its tokens would say nothing.
        """
        if self._unknown_id in plan.prompt_ids:
            return " ".join([*plan.prompt.split(), *self._decode(generated).split()])
        return self._decode([*plan.prompt_ids, *generated])

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return str(self._tokenizer.clean_up_tokenization(text)) if self._spaced else text
