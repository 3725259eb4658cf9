"""Greedy decoding of a batch of images, one token a step.

All rows share one prompt, so that there is no padding and no mask that could differ between one image and many. A
watcher is told each step, and rows that have ended, or that nobody waits for, leave the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from caption_svc.models.decoder import Decoder, take_out
from caption_svc.models.generated import Generated

Watcher = Callable[[int, Generated], bool]
"""A function that is told the row and what it has so far after each step. It answers whether to go on with the row."""


def decode_greedily(
    decoder: Decoder,
    image_states: torch.Tensor,
    start_ids: Sequence[int],
    end_id: int,
    max_tokens: int,
    watch: Watcher,
) -> list[Generated]:
    """Generate up to `max_tokens` tokens for each image.

    `image_states` is the vision tower's last hidden state, shape (images, patches + 1, width), and is written over.
    `start_ids` are the begin token and the prompt. Returns one `Generated` for each image, in order; a row that the
    watcher ended keeps what it had.
    """
    answers = [Generated() for _ in image_states]
    rows = list(range(len(answers)))
    reading = decoder.read(image_states, length=len(start_ids) + max_tokens - 1)
    ids = [list(start_ids) for _ in rows]
    for _ in range(max_tokens):
        scores = decoder.step(reading, torch.tensor(ids, device=image_states.device))
        chances, tokens = scores.softmax(-1).max(-1)
        chosen = tokens.tolist()
        for row, token, chance in zip(rows, chosen, chances.tolist(), strict=True):
            answers[row].add(token, chance, end_id)
        for place in reversed(range(len(rows))):
            answer = answers[rows[place]]
            if not watch(rows[place], answer) or answer.ended:
                reading.leave_out(place)
                take_out(rows, place)
                take_out(chosen, place)
        if not rows:
            break
        ids = [[token] for token in chosen]
    return answers
