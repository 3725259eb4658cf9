"""What the engine knows of a model: its spaces, and three functions. Knows no torch, no gRPC and no protobuf."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from lensmesh_chassis.errors import LensmeshError
from lensmesh_inference.devices import DeviceFacts
from lensmesh_inference.digest import Json, space_id
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.transparency import Transparency
from lensmesh_inference.models import ModelFacts

Vector: TypeAlias = npt.NDArray[np.float32]
Modality: TypeAlias = Literal["image", "text"]


_LENGTHS: Final = (0, 8, 16, 32)
_LONGER: Final = 1 << 30


@dataclass(frozen=True)
class Space:
    """One vector space: what can be compared with one another."""

    id: str
    model: str
    weights_digest: str
    dimension: int
    normalized: bool
    transparency: Transparency = Transparency.DROP
    modalities: tuple[Modality, ...] = ("image", "text")


@dataclass(frozen=True)
class EncoderInput:
    """One item as the model takes it; `data` is whatever the model's own `prepare_*` made.

    `low_content` and `fully_transparent` are said of images, as `images.prepare.Prepared` has them.
    """

    modality: Modality
    data: Any
    truncated: bool = False
    # Of a text: how many of its tokens its vector depends on; the rest may be cut off.
    length: int = 0
    low_content: bool = False
    fully_transparent: bool = False

    @property
    def group(self) -> tuple[str, int]:
        """What it may share a batch with: images with images, texts with texts of about its own length.

        A batch is computed at the length of its longest text: short ones would pay for a long one.
        """
        return self.modality, next((limit for limit in _LENGTHS if self.length <= limit), _LONGER)


# Of every image, known before it is prepared.
IMAGE_GROUP: Final = EncoderInput("image", None).group


@dataclass(frozen=True)
class Embedded:
    """One item's vector as the model makes it, not normalized; `truncated` where a text was cut to the context.

    `low_content`: an image is of one colour, or nearly so. `fully_transparent`: nothing of it can be seen.
    """

    vector: Vector
    truncated: bool = False
    low_content: bool = False
    fully_transparent: bool = False


@dataclass(frozen=True, kw_only=True)
class EncoderFacts(ModelFacts):
    """What does not change while a model is served. The first of `spaces` is the default one.

    `image_bytes` is what the queue holds of one image as the model takes it.
    """

    spaces: tuple[Space, ...]
    context_tokens: int
    image_bytes: int


Worker: TypeAlias = Callable[[Sequence[EncoderInput]], Sequence[Vector | LensmeshError]]


class EncoderModel(Protocol):
    """A model. `prepare_*` run in any thread."""

    @property
    def facts(self) -> EncoderFacts:
        """What it is."""

    def prepare_image(
        self, content: bytes, decoder: ImageDecoder, field: str, transparency: Transparency = Transparency.DROP
    ) -> EncoderInput:
        """Decode and preprocess one encoded image; raises ``InvalidInput`` for a bad one."""

    def prepare_text(self, text: str) -> EncoderInput:
        """Tokenize one text to the model's context, saying whether it was cut."""

    def workers(self) -> Sequence[Worker]:
        """One function for each device, called in a thread of its own.

        It gives vectors as the model makes them, not normalized, for items of one modality, in their order.
        """

    def devices(self) -> Sequence[DeviceFacts]:
        """Where it runs, now."""


def spaces_of(
    name: str,
    *,
    architecture: Json,
    dimension: int,
    preprocessing: Mapping[Transparency, Json],
    weights_digest: str,
    quantization: str = "none",
) -> tuple[Space, ...]:
    """A model's unit-length space, which is its default, and its raw one; then the same two for images on white."""

    def space(transparency: Transparency, normalized: bool) -> Space:
        key = space_id(
            architecture=architecture,
            dimension=dimension,
            normalized=normalized,
            preprocessing=preprocessing[transparency],
            quantization=quantization,
            weights_digest=weights_digest,
        )
        return Space(key, name, weights_digest, dimension, normalized, transparency)

    return tuple(space(policy, normalized) for policy in Transparency for normalized in (True, False))
