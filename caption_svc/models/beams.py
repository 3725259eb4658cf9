"""Beam search by transformers' own `generate`, and the probabilities of what it chose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from caption_svc.models.generated import Generated


class _Abandoned(StoppingCriteria):
    """Ends the search between two tokens once nobody waits for any picture of the batch."""

    def __init__(self, abandoned: Callable[[], bool]) -> None:
        self._abandoned = abandoned

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        return torch.full((len(input_ids),), self._abandoned(), device=input_ids.device, dtype=torch.bool)


def search_beams(
    decoder: Any,
    image_states: torch.Tensor,
    start_ids: Sequence[int],
    end_id: int,
    pad_id: int,
    max_tokens: int,
    beams: int,
    abandoned: Callable[[], bool],
) -> list[Generated]:
    """The best of `beams` hypotheses for each picture, at most `max_tokens` tokens long; `decoder` is a
    BlipTextLMHeadModel.

    The probabilities come from one pass over the chosen tokens afterwards: keeping every beam's scores while searching
    would hold beams x steps x vocabulary numbers for each picture.
    """
    starts = torch.tensor([list(start_ids)] * len(image_states), device=image_states.device)
    sequences = decoder.generate(
        input_ids=starts,
        attention_mask=torch.ones_like(starts),
        encoder_hidden_states=image_states,
        encoder_attention_mask=torch.ones(image_states.shape[:-1], dtype=torch.long, device=image_states.device),
        eos_token_id=end_id,
        pad_token_id=pad_id,
        num_beams=beams,
        do_sample=False,
        max_new_tokens=max_tokens,
        stopping_criteria=StoppingCriteriaList([_Abandoned(abandoned)]),
    )
    logits = decoder(
        input_ids=sequences[:, :-1],
        encoder_hidden_states=image_states,
        use_cache=False,
        is_decoder=True,
        logits_to_keep=sequences.shape[1] - len(start_ids),
    ).logits
    chosen = sequences[:, len(start_ids) :]
    # Rows are padded on the right, where the causal mask keeps padding out of everything before it.
    probabilities = logits.float().softmax(-1).gather(-1, chosen[..., None])[..., 0]
    answers = []
    for tokens, chances in zip(chosen.tolist(), probabilities.tolist(), strict=True):
        answer = Generated()
        for token, chance in zip(tokens, chances, strict=True):
            answer.add(token, chance, end_id)
            if answer.ended:
                break
        answers.append(answer)
    return answers
