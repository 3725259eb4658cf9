"""Any BLIP captioner of transformers: the real ones and the bundled shapes model alike."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from caption_svc.captioner import Caption, Job, Kind, ModelFacts, Plan, Worker
from caption_svc.models.beams import search_beams
from caption_svc.models.decoder import Decoder
from caption_svc.models.generated import Generated
from caption_svc.models.greedy import decode_greedily
from caption_svc.models.vocabulary import Vocabulary
from caption_svc.models.weights import Parts, load_parts
from caption_svc.models.words import settled
from lensmesh_chassis.errors import InternalFault, InvalidInput, LensmeshError, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.devices import (
    DeviceFacts,
    choose_device,
    choose_precision,
    describe_device,
    parse_devices,
    threads_each,
)
from lensmesh_inference.digest import weights_digest
from lensmesh_inference.golden import golden_png
from lensmesh_inference.pictures.decoder import LibraryTransform, PictureDecoder
from lensmesh_inference.pictures.limits import ImageLimits
from lensmesh_inference.pictures.normalize import Normalize
from lensmesh_inference.pictures.transform import Transform, UnknownTransformError, normalize_of_processor

# bfloat16 stays above 0.999 in models of any size; below this something computes something else.
MIN_PARITY_COSINE = 0.99
_log = logging.getLogger(__name__)


class BlipCaptioner:
    """A loaded captioner on one device; a `CaptionModel`.

    `caption` and `first_scores` belong to one thread, everything else may be called from any.
    """

    def __init__(self, parts: Parts, facts: ModelFacts, device: torch.device) -> None:
        self.facts = facts
        self._network = parts.network
        self._decoder = Decoder(parts.network.text_decoder)
        self._transform, self._normalize = _preprocessing(parts.image_processor)
        self._device = device
        text: Any = parts.network.config.text_config
        self._begin_id, self._end_id = text.bos_token_id, text.sep_token_id
        self._positions: int = text.max_position_embeddings
        self._vocabulary = Vocabulary(parts.tokenizer)
        self.input_bytes: int = self._golden().nbytes

    def devices(self) -> Sequence[DeviceFacts]:
        """The one it was loaded on."""
        return [describe_device(self._device)]

    def plan(self, prompt: str, max_tokens: int, beams: int) -> Plan:
        """Tokenize the prompt; cut `max_tokens` to the positions that the decoder has left after it."""
        ids = self._vocabulary.encode(prompt)
        left = self._positions - len(ids)
        if left < 1:
            raise InvalidInput(
                Reason.TEXT_TOO_LONG,
                f"options.prompt has {len(ids)} tokens, {self.facts.name} takes {self._positions - 1}: shorten it.",
                field="options.prompt",
                metadata={"tokens": len(ids), "max_tokens": self._positions - 1},
            )
        return Plan(prompt, ids, min(max_tokens, left), beams)

    def prepare(self, content: bytes, decoder: PictureDecoder, field: str) -> torch.Tensor:
        """Pixels as the model's own processor makes them before it normalizes, uint8 of shape (3, height, width)."""
        return decoder.prepare(content, self._transform, field)

    def workers(self) -> Sequence[Worker]:
        """One, or as many as share the CPU: generating changes nothing in the model, so they share its weights."""
        return [self.caption] * len(parse_devices(self.facts.requested_device))

    @torch.inference_mode()
    def caption(self, jobs: Sequence[Job]) -> list[Caption | LensmeshError]:
        """Describe a batch of one plan."""
        plan = jobs[0].plan
        states = self._look([job.pixels for job in jobs])
        start_ids = (self._begin_id, *plan.prompt_ids)
        if plan.beams > 1:
            answers = search_beams(
                self._decoder,
                states,
                start_ids,
                self._end_id,
                plan.max_tokens,
                plan.beams,
                abandoned=lambda row: jobs[row].abandoned.is_set(),
            )
        else:
            answers = decode_greedily(
                self._decoder,
                states,
                start_ids,
                self._end_id,
                plan.max_tokens,
                watch=lambda row, answer: self._tell(jobs[row], answer),
            )
        return [self._caption(plan, answer) for answer in answers]

    @torch.inference_mode()
    def first_scores(self) -> torch.Tensor:
        """What parity is measured on: the golden picture's first token over the vocabulary, float32 on the CPU."""
        reading = self._decoder.read(self._look([self._golden()]), length=1)
        return self._decoder.step(reading, torch.tensor([[self._begin_id]], device=self._device))[0].cpu()

    def _caption(self, plan: Plan, answer: Generated) -> Caption | LensmeshError:
        if math.isnan(answer.confidence):
            return InternalFault(Reason.MODEL_FAILED, f"{self.facts.name} answered NaN.")
        text = self._vocabulary.text(plan, answer.words)
        return Caption(text, answer.confidence, len(answer.tokens), truncated=not answer.ended)

    def _look(self, pixels: Sequence[torch.Tensor]) -> torch.Tensor:
        batch = self._normalize.apply(torch.stack(list(pixels)).to(self._device), self._network.dtype)
        states = self._network.vision_model(pixel_values=batch).last_hidden_state
        assert isinstance(states, torch.Tensor)
        return states

    def _golden(self) -> torch.Tensor:
        return self.prepare(golden_png(), PictureDecoder(ImageLimits()), "golden picture")

    def _tell(self, job: Job, answer: Generated) -> bool:
        if job.on_text is not None:
            job.on_text(settled(self._vocabulary.text(job.plan, answer.words)))
        return not job.abandoned.is_set()


def _preprocessing(processor: Any) -> tuple[Transform | LibraryTransform, Normalize]:
    config = processor.to_dict()
    normalize = normalize_of_processor(config)
    try:
        return Transform.from_processor(config), normalize
    except UnknownTransformError as error:
        _log.warning("pictures are resized by transformers' own code, which is slower: %s", error)

    def library(picture: Image.Image) -> torch.Tensor:
        pixels = processor(images=picture, do_rescale=False, do_normalize=False, return_tensors="pt")["pixel_values"]
        return torch.as_tensor(pixels[0]).round().to(torch.uint8)

    return library, normalize


def load_blip(folder: Path, *, name: str, kind: Kind, device: str, precision: str, threads: int) -> BlipCaptioner:
    """Load a captioner from a folder onto a device and compare it with its own float32 answers there.

    `device` and `precision` are as in settings: "auto" chooses; `threads` are the CPU's in one forward pass. Raises
    ``NotFound`` or ``PreconditionFailed`` for a folder, device or precision that cannot be used.
    """
    torch.set_num_threads(threads_each(threads, parse_devices(device)))
    parts = load_parts(folder)
    chosen = choose_device(device)
    dtype = choose_precision(chosen, precision)
    facts = ModelFacts(
        name=name,
        weights_digest=weights_digest(parts.network.state_dict()),
        kind=kind,
        backend="torch",
        precision=str(dtype).removeprefix("torch."),
        requested_device=device,
    )
    reference = BlipCaptioner(parts, facts, torch.device("cpu")).first_scores()
    parts.network.to(device=chosen, dtype=dtype)
    served = BlipCaptioner(parts, facts, chosen)
    parity = torch.nn.functional.cosine_similarity(reference, served.first_scores(), dim=0).item()
    if math.isnan(parity) or parity < MIN_PARITY_COSINE:
        raise PreconditionFailed(
            Reason.MODEL_FAILED,
            f"{name} in {facts.precision} on {chosen} differs from float32: cosine {parity:.4f}. Set the precision to "
            "float32.",
        )
    served.facts = replace(facts, parity_cosine=min(1.0, parity))
    return served
