"""Greedy decoding of a batch of pictures, one token a step, with a key-value cache.

transformers' own `generate` does the same and the tests compare the two; this loop also gives each token's probability
as it comes, tells a watcher each step, leaves out rows that nobody waits for, and drops finished rows from the batch.
All rows share one prompt, so that there is no padding and no mask that could differ between one picture and many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from caption_svc.models.generated import Generated

Watcher = Callable[[int, Generated], bool]
"""Told the row and what it has so far after each step; answers whether to go on with the row."""

# Leaving rows out copies the cache of the others (some 40 MB a picture in BLIP-base), so it has to pay.
_COMPACT_BELOW = 0.5


def decode_greedily(
    decoder: Any,
    image_states: torch.Tensor,
    start_ids: Sequence[int],
    end_id: int,
    max_tokens: int,
    watch: Watcher,
) -> list[Generated]:
    """Generates up to `max_tokens` tokens for each picture.

    `decoder` is a BlipTextLMHeadModel, `image_states` the vision tower's last hidden state, shape (pictures, patches
    + 1, width). `start_ids` are the begin token and the prompt. Returns one `Generated` for each picture, in order; a
    row that the watcher ended keeps what it had.
    """
    rows = list(range(len(image_states)))
    answers = [Generated() for _ in rows]
    active = set(rows)
    ids = torch.tensor([list(start_ids)] * len(rows), device=image_states.device)
    cache: Any = None
    for _ in range(max_tokens):
        step = decoder(
            input_ids=ids,
            encoder_hidden_states=image_states,
            past_key_values=cache,
            use_cache=True,
            is_decoder=True,
            logits_to_keep=1,
        )
        cache = step.past_key_values
        probability, token = step.logits[:, -1].float().softmax(-1).max(-1)
        for row, token_id, chance in zip(rows, token.tolist(), probability.tolist(), strict=True):
            if row not in active:
                continue
            answers[row].add(token_id, chance, end_id)
            if not watch(row, answers[row]) or answers[row].ended:
                active.remove(row)
        if not active:
            break
        ids = token[:, None]
        if len(active) <= _COMPACT_BELOW * len(rows):
            kept = torch.tensor([place for place, row in enumerate(rows) if row in active], device=ids.device)
            cache.batch_select_indices(kept)
            image_states, ids = image_states[kept], ids[kept]
            rows = [row for row in rows if row in active]
    return answers
