"""The engine's view of a model: its spaces, and the functions that prepare inputs and compute vectors.

This module imports neither torch nor gRPC nor protobuf.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from lensmesh_chassis.errors import LensmeshError
from lensmesh_inference.devices import DeviceFacts
from lensmesh_inference.digest import Json, space_id
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.local_features import LocalFeatures
from lensmesh_inference.images.perceptual import PerceptualHash
from lensmesh_inference.images.thumbnail import Thumbnail
from lensmesh_inference.images.transparency import Transparency
from lensmesh_inference.models import ModelFacts

Vector: TypeAlias = npt.NDArray[np.float32]
Modality: TypeAlias = Literal["image", "text"]


# Of a model that makes tokens of a text on its own: of so many characters a tokenizer makes tokens in 0.06 ms, and of
# the most hostile ones in 0.5 ms. Few queries are longer.
BRIEF_TEXT_CHARS: Final = 64
_LENGTHS: Final = (0, 8, 16, 32)
_LONGER: Final = 1 << 30


@dataclass(frozen=True)
class Space:
    """A vector space. Only vectors of the same space can be compared."""

    id: str
    model: str
    weights_digest: str
    dimension: int
    normalized: bool
    transparency: Transparency = Transparency.DROP
    modalities: tuple[Modality, ...] = ("image", "text")


class Scoring(StrEnum):
    """The way in which a model was trained to make probabilities of the scores of labels."""

    SOFTMAX = "softmax"
    """Of all labels together (CLIP)."""
    SIGMOID = "sigmoid"
    """Of each label for itself (SigLIP)."""


@dataclass(frozen=True)
class LogitScale:
    """Numbers that a model learned for turning a cosine into a score: cosine times `factor`, plus `bias`."""

    factor: float
    bias: float | None = None

    @property
    def scoring(self) -> Scoring:
        """A sigmoid where there is a bias: only models that were trained with one have it (Zhai et al. 2023)."""
        return Scoring.SOFTMAX if self.bias is None else Scoring.SIGMOID


@dataclass(frozen=True)
class EncoderInput:
    """An item as the model takes it. `data` is what the model's own `prepare_*` made.

    `low_content`, `fully_transparent`, `perceptual_hash`, `local_features` and `thumbnail` are about images, and mean
    what they mean in `images.prepare.Prepared`.
    """

    modality: Modality
    data: Any
    truncated: bool = False
    # Of a text: how many of its tokens its vector depends on; the rest may be cut off.
    length: int = 0
    low_content: bool = False
    fully_transparent: bool = False
    perceptual_hash: PerceptualHash | None = None
    local_features: LocalFeatures | None = None
    thumbnail: Thumbnail | None = None

    @property
    def group(self) -> tuple[str, int]:
        """The group of items that may share a batch: images, or texts of about the same length.

        A batch is computed at the length of its longest text, so short texts would pay for a long one.
        """
        return self.modality, next((limit for limit in _LENGTHS if self.length <= limit), _LONGER)


# Of every image, known before it is prepared.
IMAGE_GROUP: Final = EncoderInput("image", None).group


@dataclass(frozen=True)
class Embedded:
    """An item's vector as the model makes it, not normalized.

    `truncated`: a text was cut to the model's context. `low_content`: an image is of one colour, or nearly so.
    `fully_transparent`: nothing of an image can be seen. `perceptual_hash`, `local_features` and `thumbnail` are an
    image's, where they were asked for.
    """

    vector: Vector
    truncated: bool = False
    low_content: bool = False
    fully_transparent: bool = False
    perceptual_hash: PerceptualHash | None = None
    local_features: LocalFeatures | None = None
    thumbnail: Thumbnail | None = None


@dataclass(frozen=True, kw_only=True)
class EncoderFacts(ModelFacts):
    """The facts of a model, which do not change while it is served. The first of `spaces` is the default one.

    `image_bytes` is the memory of one prepared image while it waits in the queue. Without a `logit_scale` a model
    classifies nothing.
    """

    spaces: tuple[Space, ...]
    context_tokens: int
    image_bytes: int
    logit_scale: LogitScale | None = None


Worker: TypeAlias = Callable[[Sequence[EncoderInput]], Sequence[Vector | LensmeshError]]


class EncoderModel(Protocol):
    """A model that makes vectors of images and texts. Its `prepare_*` methods may run in any thread."""

    @property
    def facts(self) -> EncoderFacts:
        """The model's facts."""

    @property
    def brief_text_chars(self) -> int:
        """The most characters that a text may have of which `prepare_text` makes tokens at once.

        It takes a fraction of a millisecond then, and waits for no other thread. 0: no text is so.
        """

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
        """Decode and preprocess one encoded image. Raises ``InvalidInput``, naming `field`, for a bad one.

        `hashed` asks for its perceptual hash too, `featured` for its local features, and `thumbnail_px` for a thumbnail
        with such a longer side.
        """

    def prepare_text(self, text: str) -> EncoderInput:
        """Tokenize one text and cut it to the model's context; `truncated` says whether it was cut."""

    def workers(self) -> Sequence[Worker]:
        """Return one function for each device. Each function is called in a thread of its own.

        A function takes items of one modality. It returns their vectors in the same order, as the model makes them: not
        normalized. An item that failed has an error in place of its vector.
        """

    def devices(self) -> Sequence[DeviceFacts]:
        """Return the devices that the model runs on, as they are now."""


def spaces_of(
    name: str,
    *,
    architecture: Json,
    dimension: int,
    preprocessing: Mapping[Transparency, Json],
    weights_digest: str,
    quantization: str = "none",
) -> tuple[Space, ...]:
    """Return a model's spaces: the unit-length one, which is the default, and the raw one.

    The same two for images on white come after them.
    """

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
