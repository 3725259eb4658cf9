"""A device's share of a captioner: images in, captions out, a batch at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from caption_svc.model import Caption, CaptionerInput, Plan
from caption_svc.models.beams import search_beams
from caption_svc.models.decoder import Decoder
from caption_svc.models.generated import Generated
from caption_svc.models.greedy import decode_greedily
from caption_svc.models.vocabulary import Vocabulary
from caption_svc.models.words import settled
from lensmesh_chassis.errors import InternalFault, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.backends.device_errors import classify
from lensmesh_inference.backends.torch_tower import TorchTower
from lensmesh_inference.backends.tower import Tower


@dataclass(frozen=True)
class Language:
    """The language of a captioner: its words, and the tokens that stand before and after a caption."""

    words: Vocabulary
    begin_id: int
    end_id: int


class Describer:
    """A vision tower and a decoder. It belongs to one thread at a time."""

    def __init__(self, name: str, tower: Tower, decoder: Decoder, language: Language) -> None:
        self._name = name
        self._tower = tower
        self._decoder = decoder
        self._language = language

    def caption(self, inputs: Sequence[CaptionerInput]) -> list[Caption | LensmeshError]:
        """Describe images of one plan.

        Raises ``OutOfMemory`` or ``DeviceLost`` where the device fails so. A batch may be run again after a failure:
        its inputs are left as they were.
        """
        plan, language = inputs[0].plan, self._language
        start_ids = (language.begin_id, *plan.prompt_ids)
        with classify(), torch.inference_mode():
            states = self.look(torch.stack([one.pixels for one in inputs]))
            if plan.beams > 1:
                answers = search_beams(
                    self._decoder,
                    states,
                    start_ids,
                    language.end_id,
                    plan.max_tokens,
                    plan.beams,
                    abandoned=lambda row: inputs[row].abandoned.is_set(),
                )
            else:
                answers = decode_greedily(
                    self._decoder,
                    states,
                    start_ids,
                    language.end_id,
                    plan.max_tokens,
                    watch=lambda row, answer: self._tell(inputs[row], answer),
                )
        return [self._caption(plan, answer) for answer in answers]

    @torch.inference_mode()
    def look(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return what the vision tower makes of a batch, in the decoder's precision and on the decoder's device."""
        if isinstance(self._tower, TorchTower):
            return self._tower.compute(pixels)
        return torch.from_numpy(self._tower.run(pixels)).to(self._decoder.dtype)

    @torch.inference_mode()
    def first_scores(self, states: torch.Tensor) -> torch.Tensor:
        """Return each image's scores of the first token, shape (images, vocabulary)."""
        begin = torch.full((len(states), 1), self._language.begin_id, device=states.device)
        return self._decoder.step(self._decoder.read(states, length=1), begin)

    def _caption(self, plan: Plan, answer: Generated) -> Caption | LensmeshError:
        if math.isnan(answer.confidence):
            return InternalFault(Reason.MODEL_FAILED, f"{self._name} answered NaN.")
        text = self._language.words.text(plan, answer.words)
        return Caption(text, answer.confidence, len(answer.tokens), truncated=not answer.ended)

    def _tell(self, one: CaptionerInput, answer: Generated) -> bool:
        if one.on_text is not None:
            one.on_text(settled(self._language.words.text(one.plan, answer.words)))
        return not one.abandoned.is_set()
