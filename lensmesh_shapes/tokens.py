"""The word-level tokenizer that both models share."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerBase

from lensmesh_shapes.captions import vocabulary

PAD, UNKNOWN, START, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"


def words() -> list[str]:
    """Return the vocabulary by token id. The end token comes last: open_clip pools at the highest id."""
    return [PAD, UNKNOWN, "[MASK]", START, *vocabulary(), END]


def save_tokenizer(folder: Path, context_length: int) -> PreTrainedTokenizerBase:
    """Write the tokenizer's files and return it as any user of the folder would load it."""
    ids = {word: number for number, word in enumerate(words())}
    BertTokenizer(vocab=ids, do_lower_case=True, model_max_length=context_length).save_pretrained(str(folder))
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(folder))
    return loaded
