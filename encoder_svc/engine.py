"""A served model, from an image or a text to its vector. This module imports neither gRPC nor protobuf."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np

from encoder_svc.cached import VectorCodec, scope_of
from encoder_svc.label_vectors import LabelVectors
from encoder_svc.model import IMAGE_GROUP, Embedded, EncoderInput, EncoderModel, Space, Vector
from lensmesh_chassis.errors import InternalFault
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry import spans
from lensmesh_chassis.thumbnails import most_bytes
from lensmesh_inference.engine import EngineResources, ModelEngine
from lensmesh_inference.golden import golden_png
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.local_features import MAX_BYTES
from lensmesh_inference.images.pool import DecodePool
from lensmesh_inference.items import EngineItem
from lensmesh_inference.registry import ServedModel

# The unit vectors of the canary's image and text.
CanaryVectors: TypeAlias = tuple[Vector, Vector]

# More than a query or a caption has; a thread does some thousand such texts a second.
SHORT_TEXT_CHARS = 500
GOLDEN_TEXT = "a red disc and a blue square"
# What int8 and bfloat16 lose is ten times less, and what a broken device makes is nowhere near.
CANARY_COSINE = 0.99
_LEAST_NORM: Final = 1e-12


@dataclass(frozen=True)
class ImageInput:
    """An encoded image; `field` is its dotted path in the request."""

    content: bytes
    field: str


@dataclass(frozen=True)
class TextInput:
    """A text; `field` is its dotted path in the request."""

    text: str
    field: str


Input: TypeAlias = ImageInput | TextInput


class TextPools:
    """The threads that make tokens of texts.

    Short texts have one thread and long texts another, apart from the threads that decode images. However long a text
    takes, no image and no search's few words wait for it. The few words of a call need none (`EngineItem.brief`).
    """

    def __init__(self) -> None:
        self.short = DecodePool(1, name="tokenize")
        self.long = DecodePool(1, name="tokenize-long")

    @property
    def all(self) -> tuple[DecodePool, DecodePool]:
        """Both pools, that of short texts first."""
        return self.short, self.long

    def pool_of(self, text: str) -> DecodePool:
        """Return the pool that tokenizes a text; its length decides."""
        return self.long if len(text) > SHORT_TEXT_CHARS else self.short


class ServedEncoder(ServedModel[EncoderModel, Embedded, CanaryVectors]):
    """A served model with the engine that makes vectors of its items."""

    def __init__(self, model: EncoderModel, resources: EngineResources, texts: TextPools) -> None:
        engine: ModelEngine[EncoderInput, Vector, Embedded] = ModelEngine(
            model.workers(),
            resources,
            name=model.facts.name,
            group_of=lambda prepared: prepared.group,
            finish=self._finish,
            codec=VectorCodec(model.facts.spaces[0].dimension),
        )
        super().__init__(model, engine)
        self.labels = LabelVectors(
            engine,
            resources.cache,
            self._label_text,
            scope=model.facts.spaces[0].id,
            dimension=model.facts.spaces[0].dimension,
        )
        self._decoder = resources.pool.decoder
        self._texts = texts
        self._brief_chars = model.brief_text_chars

    def item(
        self,
        source: Input,
        space: Space,
        *,
        half: bool = False,
        hashed: bool = False,
        featured: bool = False,
        thumbnail_px: int = 0,
        decoder: ImageDecoder | None = None,
    ) -> EngineItem[EncoderInput, Embedded]:
        """Return the engine's item for one image or text, which asks for its vector in `space`.

        With `half` the item fails where a number of the vector is too large for float16. `hashed` asks for the
        perceptual hash of an image too, `featured` for its local features, and `thumbnail_px` for a thumbnail with such
        a longer side. `decoder` decodes the image in place of the pool's own decoder.
        """
        facts = self.model.facts
        convert = functools.partial(_convert, normalized=space.normalized, half=half)
        if isinstance(source, ImageInput):
            return EngineItem(
                prepare=functools.partial(
                    self.model.prepare_image,
                    source.content,
                    decoder or self._decoder,
                    source.field,
                    space.transparency,
                    hashed=hashed,
                    featured=featured,
                    thumbnail_px=thumbnail_px,
                ),
                step="decode",
                size_bytes=len(source.content)
                + facts.image_bytes
                + (MAX_BYTES if featured else 0)
                + most_bytes(thumbnail_px),
                group=IMAGE_GROUP,
                content=source.content,
                scope=scope_of(
                    facts, "image", space.transparency, hashed=hashed, featured=featured, thumbnail_px=thumbnail_px
                ),
                part=(scope_of(facts, "image", space.transparency), _vector_alone)
                if hashed or featured or thumbnail_px
                else None,
                convert=convert,
                attributes=lambda: {spans.ITEM_KIND: "image", spans.ITEM_BYTES: len(source.content)},
            )
        content = source.text.encode()
        return EngineItem(
            prepare=functools.partial(self.model.prepare_text, source.text),
            step="tokenize",
            brief=len(source.text) <= self._brief_chars,
            size_bytes=len(source.text) * 4 + facts.context_tokens * 8,
            pool=self._texts.pool_of(source.text),
            content=content,
            scope=scope_of(facts, "text", space.transparency),
            convert=convert,
            attributes=functools.partial(_text_attributes, source.text),
        )

    def _label_text(self, text: str) -> EngineItem[EncoderInput, Embedded]:
        """Return the item of one text of a label, which asks for the unit vector. The label's is kept, and not its."""
        item = self.item(TextInput(text, ""), self.model.facts.spaces[0])
        return dataclasses.replace(item, scope="", content=b"")

    async def ask(self, device: int) -> CanaryVectors:
        """Ask one device for the vectors of the canary's image and text, which are always the same."""
        space = self.model.facts.spaces[0]
        # What callers may send is limited by settings; this is none of theirs.
        decoder = self._decoder.within(ImageLimits())
        sources = (ImageInput(golden_png(), "canary"), TextInput(GOLDEN_TEXT, "canary"))
        items = [self.item(source, space, decoder=decoder) for source in sources]
        image, text = await self.engine.probe(items, device=device)
        return _unit(image.vector), _unit(text.vector)

    def same(self, known: CanaryVectors, answer: CanaryVectors) -> bool:
        """Return whether two answers to the canary agree.

        Batches of different sizes round differently. Such answers agree; any larger difference is a failure.
        """
        return all(float(one @ other) >= CANARY_COSINE for one, other in zip(known, answer, strict=True))

    def _finish(self, prepared: EncoderInput, vector: Vector) -> Embedded:
        # A number that is not finite makes the product so. A product of finite numbers may be too large.
        if not math.isfinite(np.vdot(vector, vector)) and not np.isfinite(vector).all():
            text = f"{self.model.facts.name} answered NaN or an infinite number for this item."
            raise InternalFault(Reason.MODEL_FAILED, text)
        return Embedded(
            vector,
            prepared.truncated,
            prepared.low_content,
            prepared.fully_transparent,
            prepared.perceptual_hash,
            prepared.local_features,
            prepared.thumbnail,
        )


def _text_attributes(text: str) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {spans.ITEM_KIND: "text", spans.ITEM_BYTES: len(text.encode())}
    return {**attributes, spans.QUERY_TEXT: text} if spans.shows_content() else attributes


def _vector_alone(value: Embedded) -> Embedded:
    """Return the answer to who asks for the vector alone."""
    return dataclasses.replace(value, perceptual_hash=None, local_features=None, thumbnail=None)


def _convert(value: Embedded, *, normalized: bool, half: bool) -> Embedded:
    vector = _unit(value.vector) if normalized else value.vector
    if half:
        _check_half(vector)
    return replace(value, vector=vector)


def _check_half(vector: Vector) -> None:
    with np.errstate(over="ignore"):
        if not np.isfinite(vector.astype(np.float16)).all():
            raise InternalFault(
                Reason.MODEL_FAILED,
                "A number of this vector is too large for FLOAT16: ask for FLOAT32 or the unit-length space.",
            )


def _unit(vector: Vector) -> Vector:
    # As torch.nn.functional.normalize, in float32 like open_clip's own. The norm is numpy's, which takes longer to ask.
    # Python's root of it, rounded to float32, is float32's own, and is sooner known.
    norm = np.float32(max(math.sqrt(np.vdot(vector, vector)), _LEAST_NORM))
    unit: Vector = vector / norm
    return unit
