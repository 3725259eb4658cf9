"""BLIP's vision tower over transformers' own weights.

transformers writes out the scores of its attention, 577 x 577 for each head and image, and reads them again. This
module uses torch's fused attention, which both torch and OpenVINO compute without writing the scores out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


class VisionTower(torch.nn.Module):
    """A BlipVisionModel as a module of one input and one output."""

    def __init__(self, vision: Any) -> None:
        super().__init__()
        self.vision = vision

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the last layer's states, shape (n, patches + 1, width).

        `pixels` are normalized, shape (n, 3, height, width).
        """
        states: Tensor = self.vision.embeddings(pixels)
        for layer in self.vision.encoder.layers:
            states = states + _attend(layer.self_attn, layer.layer_norm1(states))
            states = states + layer.mlp(layer.layer_norm2(states))
        last: Tensor = self.vision.post_layernorm(states)
        return last


def _attend(attention: Any, states: Tensor) -> Tensor:
    images, patches, width = states.shape
    projected = attention.qkv(states).view(images, patches, 3, attention.num_heads, -1)
    query, key, value = projected.permute(2, 0, 3, 1, 4)
    mixed = functional.scaled_dot_product_attention(query, key, value, scale=attention.scale)
    result: Tensor = attention.projection(mixed.transpose(1, 2).reshape(images, patches, width))
    return result
