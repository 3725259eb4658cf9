"""The way in which a tokenizer of transformers makes tokens of texts, as JSON: everything beside its vocabulary.

Two tokenizers of one vocabulary differ by their normalizer (does it lower the case?), their pre-tokenizer (where do
words end?), their merges or scores, their marks, and how they find words that stand for tokens. The form is that of
``tokenizer.json``, of the tokenizer as it was loaded, which may be more than the file says. It is part of the contract.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lensmesh_inference.digest import Json, content_digest

_STEPS: Final = ("normalizer", "pre_tokenizer", "post_processor")
_ADDED: Final = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")


def tokenization(tokenizer: Any) -> dict[str, Json]:
    """Describe a ``PreTrainedTokenizerBase``.

    The result is equal for two tokenizers that give equal vocabularies the same tokens. Keys whose value is null or
    false are left out, so that a field that comes with a later tokenizers library changes nothing where it is not used.
    Token ids are in the vocabulary. How texts are cut and padded for one call is not included.
    """
    facts: dict[str, Any] = {
        "padding_side": tokenizer.padding_side,
        "truncation_side": tokenizer.truncation_side,
        "pad_token": tokenizer.pad_token,
        "split_special_tokens": tokenizer.split_special_tokens,
    }
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return _bare({**facts, "class": type(tokenizer).__name__, "files": _files(tokenizer)})
    stated = json.loads(backend.to_str())
    model = stated["model"]
    if isinstance(model["vocab"], Mapping):
        del model["vocab"]
    if "merges" in model:
        # Older files join the two with a space.
        model["merges"] = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model["merges"]]
    added = [{name: token.get(name) for name in _ADDED} for token in stated["added_tokens"]]
    facts["added_tokens"] = sorted(added, key=lambda token: str(token["content"]))
    return _bare({**facts, "model": model, **{key: stated[key] for key in _STEPS}})


def is_uncased_bert(facts: Mapping[str, Json], vocabulary: Mapping[str, int]) -> bool:
    """Tell whether these are the `tokenization` of ``bert-base-uncased``, over whatever vocabulary."""
    return facts == _bare(_uncased_bert(vocabulary))


def _uncased_bert(vocabulary: Mapping[str, int]) -> dict[str, Any]:
    first = [_place("SpecialToken", "[CLS]", 0), _place("Sequence", "A", 0), _place("SpecialToken", "[SEP]", 0)]
    second = [_place("Sequence", "B", 1), _place("SpecialToken", "[SEP]", 1)]
    return {
        "padding_side": "right",
        "truncation_side": "right",
        "pad_token": "[PAD]",
        "added_tokens": [
            {"content": token, "special": True} for token in ("[CLS]", "[MASK]", "[PAD]", "[SEP]", "[UNK]")
        ],
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        },
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": first,
            "pair": [*first, *second],
            "special_tokens": {
                mark: {"id": mark, "ids": [vocabulary.get(mark, -1)], "tokens": [mark]} for mark in ("[CLS]", "[SEP]")
            },
        },
    }


def _place(kind: str, name: str, sentence: int) -> dict[str, Any]:
    return {kind: {"id": name, "type_id": sentence}}


def _bare(facts: Mapping[str, Any]) -> dict[str, Json]:
    """Return the facts without the keys that say nothing."""
    return {key: _bare_value(value) for key, value in facts.items() if value is not None and value is not False}


def _bare_value(value: Any) -> Json:
    if isinstance(value, Mapping):
        return _bare(value)
    return [_bare_value(inner) for inner in value] if isinstance(value, list) else value


def _files(tokenizer: Any) -> dict[str, str]:
    """Return digests of what a tokenizer written in Python saves: its words, merges or sentence pieces."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_vocabulary(folder)
        return {path.name: content_digest(path.read_bytes()) for path in sorted(Path(folder).iterdir())}
