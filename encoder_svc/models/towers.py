"""The two towers of any open_clip model, each as a module of one input and one output, not normalized."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import open_clip
import torch
from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor

# What pools one position of its own choice; the last position of all, or none, needs the full length.
_POOLS_ONE: Final = ("first", "argmax", "eos")


class ImageTower(torch.nn.Module):
    """A tower from normalized images to vectors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        # A model without its text half: what is copied or cast for this tower is no more than it needs.
        self.visual = model.visual

    def forward(self, pixels: Tensor) -> Tensor:
        return _pooled(self.visual(pixels))


class TextTower(torch.nn.Module):
    """A tower from tokens of full length to vectors, for models that look at all of them."""

    def __init__(self, text: Any) -> None:
        super().__init__()
        self.text = text

    def forward(self, tokens: Tensor) -> Tensor:
        return _pooled(self.text(tokens))


class CausalTextTower(torch.nn.Module):
    """A tower from tokens to vectors, for models where no position sees a later one.

    Any length up to the context will do. What stands behind the pooled position changes nothing, so a batch can be cut
    to its longest text. open_clip computes the same, always at full length.
    """

    attn_mask: Tensor

    def __init__(self, text: Any) -> None:
        super().__init__()
        self.token_embedding = text.token_embedding
        self.positional_embedding = text.positional_embedding
        self.transformer = text.transformer
        self.ln_final = text.ln_final
        self.text_projection = text.text_projection
        self.register_buffer("attn_mask", text.attn_mask, persistent=False)
        self._pool, self._end = _pooling(text)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        dtype = self.transformer.get_cast_dtype()
        states = self.token_embedding(tokens).to(dtype) + self.positional_embedding[:length].to(dtype)
        states = self.ln_final(self.transformer(states, attn_mask=self.attn_mask[:length, :length]))
        pooled: Tensor = text_global_pool(states, tokens, self._pool, eos_token_id=self._end)
        if self.text_projection is None:
            return pooled
        if isinstance(self.text_projection, torch.nn.Linear):
            projected: Tensor = self.text_projection(pooled)
            return projected
        weight: Tensor = self.text_projection
        return pooled @ weight

    def used(self, tokens: Tensor) -> int:
        """Return how many of a text's tokens, from the first on, its vector depends on."""
        if self._pool == "first":
            return 1
        marks = tokens if self._pool == "argmax" else torch.eq(tokens, self._end or 0).int()
        return int(marks.argmax()) + 1


def text_tower(model: Any) -> CausalTextTower | TextTower:
    """Return the tower of a model's text half. It is causal where the model itself is."""
    if isinstance(model, open_clip.CLIP):
        # Its text half has no module of its own.
        return CausalTextTower(model) if _is_causal(model) else TextTower(_Whole(model))
    text = model.text
    if isinstance(text, TextTransformer) and text.cls_emb is None and not text.use_pad_mask and _is_causal(text):
        return CausalTextTower(text)
    return TextTower(text)


def used_tokens(tower: CausalTextTower | TextTower) -> Callable[[Tensor], int]:
    """Return the function that tells how many of a text's tokens a tower needs."""
    return tower.used if isinstance(tower, CausalTextTower) else len


def _pooled(features: Any) -> Tensor:
    """Return the vectors alone. CoCa's towers return them together with the tokens that they were made of."""
    vectors: Tensor = features[0] if isinstance(features, tuple) else features
    return vectors


class _Whole(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Any:
        return self.model.encode_text(tokens, normalize=False)


def _pooling(text: Any) -> tuple[str, int | None]:
    if isinstance(text, open_clip.CLIP):
        return text.text_pool_type, getattr(text, "text_eos_id", None)
    return text.pool_type, getattr(text, "eos_id", None)


def _is_causal(text: Any) -> bool:
    """Return whether no position can see a later one.

    The mask itself is read, because names and settings have been wrong.
    """
    mask = text.attn_mask
    if mask is None or mask.ndim != 2 or _pooling(text)[0] not in _POOLS_ONE:
        return False
    later = torch.ones_like(mask, dtype=torch.bool).triu(1)
    return bool((mask[later] == -torch.inf).all())
