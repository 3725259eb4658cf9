"""The service's view of a caption model. This module imports neither torch nor gRPC."""

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
    """The facts of a served model. Its parity is that of the vision tower's states and of the first word's scores.

    `answers_digest` is of all that decides the answers, except backend and precision: weights, configuration,
    preprocessing, vocabulary.
    """

    answers_digest: str = ""

    @property
    def label(self) -> str:
        """The text of `Caption.model`: the name, "@" and the first 12 digits of the weights' digest."""
        return f"{self.name}@{self.weights_digest[:12]}"


@dataclass(frozen=True)
class Plan:
    """The plan by which one call's captions are generated. Images of equal plans share a batch.

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
    """A description; the fields are those of the contract's Caption."""

    text: str
    confidence: float
    token_count: int
    truncated: bool


@dataclass
class CaptionerInput:
    """An image on its way through the model.

    `pixels` is what `CaptionModel.prepare` made of the image. `on_text` is called in the model's thread after each
    step, with the text so far that no later step changes. `abandoned` is set when nobody waits any more. From then on
    generation leaves the image out, and the answer for it means nothing.
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
        """The model's facts."""

    @property
    def input_bytes(self) -> int:
        """Memory that one prepared image holds while it waits, in bytes."""

    def devices(self) -> Sequence[DeviceFacts]:
        """Return the devices that the model runs on, with their memory as it is now."""

    def plan(self, prompt: str, max_tokens: int, beams: int) -> Plan:
        """Check a call's parameters and make a plan of them.

        Raises ``InvalidInput`` for a prompt that the model cannot begin with.
        """

    def prepare(
        self, content: bytes, decoder: ImageDecoder, field: str, transparency: Transparency = Transparency.DROP
    ) -> Any:
        """Decode one encoded image and make it the model's input. Runs in the pool's threads.

        Raises ``InvalidInput`` for a bad image, naming `field`.
        """

    def workers(self) -> Sequence[Worker]:
        """Return one function for each device. Each function is called in a thread of its own.

        A function describes images of one plan. It returns one answer for each image, in order: a caption, or the error
        where the image failed.
        """
