"""What a caption model is to the rest of the service. Knows no torch, no gRPC."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from lensmesh_chassis.errors import LensmeshError
from lensmesh_inference.devices import DeviceFacts
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.transparency import Transparency
from lensmesh_inference.models import ModelFacts


@dataclass(frozen=True, kw_only=True)
class CaptionerFacts(ModelFacts):
    """What a served model tells about itself. Parity is of what its tower sees, and of the first word's scores.

    `answers_digest` is of all beside backend and precision that decides what it answers: weights, configuration,
    preprocessing, vocabulary.
    """

    answers_digest: str = ""

    @property
    def label(self) -> str:
        """What `Caption.model` says: the name, "@" and 12 digits of the digest."""
        return f"{self.name}@{self.weights_digest[:12]}"


@dataclass(frozen=True)
class Plan:
    """How one call's captions are generated. Images of equal plans share a batch.

    `prompt_ids` are the prompt's tokens without special ones; `max_tokens` counts generated tokens, the end token
    included. `transparency` is what the model sees where an image is transparent.
    """

    prompt: str
    prompt_ids: tuple[int, ...]
    max_tokens: int
    beams: int
    transparency: Transparency = Transparency.DROP


@dataclass(frozen=True)
class Caption:
    """One description; the fields are those of the contract's Caption."""

    text: str
    confidence: float
    token_count: int
    truncated: bool


@dataclass
class CaptionerInput:
    """One image on its way through the model.

    `pixels` is what `CaptionModel.prepare` made of it. `on_text` is called in the model's thread, after each step,
    with the text so far that no later step changes. `abandoned` is set when nobody waits any more: generation leaves
    the image out from then on, and what it answers for it means nothing.
    """

    pixels: Any
    plan: Plan
    on_text: Callable[[str], None] | None = None
    abandoned: threading.Event = field(default_factory=threading.Event)


Worker: TypeAlias = Callable[[Sequence[CaptionerInput]], Sequence[Caption | LensmeshError]]


class CaptionModel(Protocol):
    """A model that describes images."""

    @property
    def facts(self) -> CaptionerFacts:
        """What it is."""

    @property
    def input_bytes(self) -> int:
        """Memory that one prepared image holds while it waits."""

    def devices(self) -> Sequence[DeviceFacts]:
        """Where it runs, memory as of now."""

    def plan(self, prompt: str, max_tokens: int, beams: int) -> Plan:
        """Check a call's parameters. Raises ``InvalidInput`` for a prompt that the model cannot begin with."""

    def prepare(
        self, content: bytes, decoder: ImageDecoder, field: str, transparency: Transparency = Transparency.DROP
    ) -> Any:
        """Decode one encoded image and make it the model's input. Runs in the pool's threads.

        Raises ``InvalidInput`` for a bad image, naming `field`.
        """

    def workers(self) -> Sequence[Worker]:
        """One function for each device, called in a thread of its own.

        It describes images of one plan, one answer for each, in order.
        """
