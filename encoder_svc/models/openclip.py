"""A loaded open_clip model: inputs made in any thread, vectors computed in one thread for each device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from encoder_svc.model import EncoderFacts, EncoderInput, Vector, Worker
from encoder_svc.models.preprocessing import Preprocessing
from encoder_svc.models.tokens import Tokens
from lensmesh_chassis.errors import InternalFault, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.backends.tower import Placement, Tower
from lensmesh_inference.devices import DeviceFacts, describe_cpu, describe_device
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.transparency import Transparency


@dataclass(frozen=True)
class Inputs:
    """The maker of a model's inputs. `used_tokens` tells how many of a text's tokens its vector depends on."""

    preprocessing: Preprocessing
    tokens: Tokens
    used_tokens: Callable[[torch.Tensor], int]

    def image(
        self,
        content: bytes,
        decoder: ImageDecoder,
        field: str = "image",
        transparency: Transparency = Transparency.DROP,
        *,
        hashed: bool = False,
        featured: bool = False,
        thumbnail_px: int = 0,
    ) -> EncoderInput:
        """Make the input of one encoded image. Raises ``InvalidInput``, naming `field`, for a bad one."""
        made = decoder.prepare(
            content,
            self.preprocessing.transform,
            field,
            transparency=transparency,
            hashed=hashed,
            featured=featured,
            thumbnail_px=thumbnail_px,
        )
        return EncoderInput(
            "image",
            made.pixels,
            low_content=made.low_content,
            fully_transparent=made.fully_transparent,
            perceptual_hash=made.perceptual_hash,
            local_features=made.local_features,
            thumbnail=made.thumbnail,
        )

    def text(self, text: str) -> EncoderInput:
        """Make the input of one text."""
        tokens, cut = self.tokens(text)
        return EncoderInput("text", tokens, truncated=cut, length=self.used_tokens(tokens))


class OpenClipModel:
    """An open_clip model on its devices. Both towers give float32 vectors, not normalized."""

    def __init__(
        self, facts: EncoderFacts, inputs: Inputs, places: Sequence[Placement], pairs: Sequence[tuple[Tower, Tower]]
    ) -> None:
        """Take the model's parts. `pairs` holds a tower of images and one of texts for each of `places`."""
        self.facts = facts
        self.brief_text_chars = inputs.tokens.brief_chars
        self._inputs = inputs
        self._places = places
        self._pairs = pairs

    def prepare_image(
        self,
        content: bytes,
        decoder: ImageDecoder,
        field: str,
        transparency: Transparency = Transparency.DROP,
        *,
        hashed: bool = False,
        featured: bool = False,
        thumbnail_px: int = 0,
    ) -> EncoderInput:
        return self._inputs.image(
            content, decoder, field, transparency, hashed=hashed, featured=featured, thumbnail_px=thumbnail_px
        )

    def prepare_text(self, text: str) -> EncoderInput:
        return self._inputs.text(text)

    def workers(self) -> Sequence[Worker]:
        return [_worker(self.facts.name, image, text) for image, text in self._pairs]

    def devices(self) -> Sequence[DeviceFacts]:
        return [
            describe_cpu(place.threads) if place.device.type == "cpu" else describe_device(place.device)
            for place in self._places
        ]


def _worker(name: str, image: Tower, text: Tower) -> Worker:
    def compute(batch: Sequence[EncoderInput]) -> Sequence[Vector | LensmeshError]:
        if batch[0].modality == "image":
            rows = image.run(torch.stack([item.data for item in batch]))
        else:
            # Two at least: shorter than a begin and an end mark no text is.
            longest = max(2, max(item.length for item in batch))
            rows = text.run(torch.stack([item.data[:longest] for item in batch]))
        return [
            row if np.isfinite(row).all() else InternalFault(Reason.MODEL_FAILED, f"{name} answered NaN.")
            for row in rows
        ]

    return compute
