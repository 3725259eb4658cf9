"""BLIP's text decoder over transformers' own weights, one step of a batch at a time.

transformers' generation asks it through a cache object that copies the image's keys and values for each beam and at
each reordering, and takes its attention apart into matrices of scores. Here beams of one image are queries of one
attention, so they share what belongs to the image, and a prompt is read once per image, not once per beam.

An image's keys and values are never made at all. A score is q · (W s), which is (q W) · s: moving the key's matrix to
the query, and the value's to the result, is the same arithmetic in another order, and then all layers attend to the
tower's states themselves. In BLIP-base those are 1.8 MB an image where keys and values of twelve layers are 43 MB, to
be computed first and to be read again for each token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch.nn import functional

Item = TypeVar("Item")


class Decoder:
    """The decoder of one network, which is a BlipTextLMHeadModel.

    Its methods belong to one thread at a time. A `Reading` belongs to one batch.
    """

    def __init__(self, network: Any) -> None:
        text = network.config
        self._head = network.cls
        self._embeddings = network.bert.embeddings
        self._layers = [_Layer(layer) for layer in network.bert.encoder.layer]
        self._heads: int = text.num_attention_heads
        self._width: int = text.hidden_size
        self.dtype: torch.dtype = network.dtype

    def read(self, states: torch.Tensor, *, length: int, beams: int = 1) -> Reading:
        """Begin with some images. At most `length` tokens will go in for each of an image's `beams`.

        `states` is what the vision tower made of the images, shape (images, patches + 1, width). The reading may write
        over it.
        """
        rows = len(states) * beams
        return Reading(states, beams, (len(self._layers), rows, self._heads, length, self._width // self._heads))

    def step(self, reading: Reading, ids: torch.Tensor) -> torch.Tensor:
        """Take in tokens; return the scores of the next token, float32, shape (rows, vocabulary).

        `ids` has shape (rows, tokens). Rows are images x beams, or images alone for a prompt.
        """
        before, rows, tokens = reading.length, *ids.shape
        hidden = self._embeddings(input_ids=ids, past_key_values_length=before)
        for layer, keys, values in zip(self._layers, reading.keys, reading.values, strict=True):
            query, key, value = (
                part.view(rows, tokens, self._heads, -1).transpose(1, 2) for part in layer.project(hidden)
            )
            keys[:rows, :, before : before + tokens] = key
            values[:rows, :, before : before + tokens] = value
            known = keys[:rows, :, : before + tokens], values[:rows, :, : before + tokens]
            # Only a prompt has several tokens, and nothing stands before it.
            mixed = functional.scaled_dot_product_attention(query, *known, is_causal=tokens > 1)
            hidden = layer.after_text(mixed.transpose(1, 2).reshape(hidden.shape), hidden)
            hidden = layer.after_image(layer.look(hidden, reading.states, self._heads), hidden)
            hidden = layer.feed_forward(hidden)
        reading.length += tokens
        scores: torch.Tensor = self._head(hidden[:, -1])
        return scores.float()


class Reading:
    """A batch on its way: the images' states, and keys and values of the tokens so far.

    Keys and values have shape (layers, rows, heads, tokens, numbers of a head). Rows are ordered by image, then by
    beam.
    """

    def __init__(self, states: torch.Tensor, beams: int, shape: tuple[int, ...]) -> None:
        self.states = states
        self.keys, self.values = states.new_empty(shape), states.new_empty(shape)
        self.beams = beams
        self.length = 0

    def follow(self, parents: Sequence[int]) -> None:
        """Let each row go on from what row `parents[row]` had."""
        chosen = torch.tensor(parents, device=self.states.device)
        for kept in (self.keys, self.values):
            kept[:, : len(parents), :, : self.length] = kept[:, chosen, :, : self.length]

    def leave_out(self, image: int) -> None:
        """Take one image out. The last image comes in its place, as `take_out` does with lists."""
        last = len(self.states) - 1
        if image != last:
            self.states[image] = self.states[last]
            to, of = (slice(place * self.beams, (place + 1) * self.beams) for place in (image, last))
            for kept in (self.keys, self.values):
                kept[:, to, :, : self.length] = kept[:, of, :, : self.length]
        self.states = self.states[:last]


def take_out(items: list[Item], place: int) -> None:
    """Take one item out. The last item comes in its place."""
    last = items.pop()
    if place < len(items):
        items[place] = last


class _Layer:
    """A layer's weights, as the decoder uses them."""

    def __init__(self, layer: Any) -> None:
        text, image = layer.attention.self, layer.crossattention.self
        self._text = text
        self.after_text = layer.attention.output
        self._query = image.query
        self._key_weight, self._value_weight = image.key.weight, image.value.weight
        self._value_bias = image.value.bias
        self.after_image = layer.crossattention.output
        self.feed_forward = layer.feed_forward_chunk

    def project(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self._text.query(hidden), self._text.key(hidden), self._text.value(hidden)

    def look(self, hidden: torch.Tensor, states: torch.Tensor, heads: int) -> torch.Tensor:
        """Return the attention to the image, shape as `hidden`.

        The key's bias is left out: it adds the same to all scores of a query, which softmax does not see. The value's
        bias is added to the result, because the weights of a query sum to 1.
        """
        images, _, width = states.shape
        queries = self._query(hidden).view(-1, heads, hidden.shape[-1] // heads).transpose(0, 1)
        size = queries.shape[-1]
        sought = torch.bmm(queries, self._key_weight.view(heads, size, width))
        # To (images, heads x rows of one image, width) and back.
        sought = sought.view(heads, images, -1, width).transpose(0, 1).reshape(images, -1, width)
        shares = torch.bmm(sought, states.transpose(1, 2)).mul_(size**-0.5).softmax(-1)
        found = torch.bmm(shares, states).view(images, heads, -1, width).transpose(0, 1).reshape(heads, -1, width)
        seen = torch.bmm(found, self._value_weight.view(heads, size, width).transpose(1, 2))
        attended: torch.Tensor = seen.transpose(0, 1).reshape(hidden.shape) + self._value_bias
        return attended
