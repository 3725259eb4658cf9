"""A stand-in for a model: vectors derived from the content's digest, for developing callers. Imports no torch.

A vector is made of the SHAKE-256 of (the model's name, "/", the SHA-256 of the content). Its first `dimension` times 4
bytes are read as little-endian unsigned integers u. Each number is u / 2^31 - 1. So the same bytes always give the same
vector, in any language. Its logit scale is 100, with a softmax, as that of CLIP. In the spaces on white, an image's
content is what can be seen of it: "WIDTHxHEIGHT:" and the RGB bytes, row by row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from encoder_svc.model import BRIEF_TEXT_CHARS, EncoderFacts, EncoderInput, LogitScale, Vector, Worker, spaces_of
from lensmesh_inference.devices import DeviceFacts, describe_cpu
from lensmesh_inference.digest import Json, content_digest
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.transparency import Transparency
from lensmesh_inference.models import ModelKind

DIMENSIONS: Final[Mapping[str, int]] = {"mock": 512, "mock-768": 768}
CONTEXT_WORDS: Final = 77
LOGIT_SCALE: Final = LogitScale(100.0)
_PREPROCESSING: Final[Mapping[Transparency, Json]] = {
    Transparency.DROP: "sha256",
    Transparency.WHITE: {"image": "sha256", "transparency": "white"},
}


class MockModel:
    """A model that answers at once. It decodes images all the same, so that bad ones fail as with a real model."""

    brief_text_chars = BRIEF_TEXT_CHARS

    def __init__(self, name: str) -> None:
        # It has no weights: the digest is that of the rule by which it answers.
        digest = content_digest(f"lensmesh-mock-1/{name}".encode())
        self.facts: EncoderFacts = EncoderFacts(
            name=name,
            kind=ModelKind.MOCK,
            weights_digest=digest,
            spaces=spaces_of(
                name,
                architecture="mock",
                dimension=DIMENSIONS[name],
                preprocessing=_PREPROCESSING,
                weights_digest=digest,
            ),
            context_tokens=CONTEXT_WORDS,
            backend="mock",
            precision="float32",
            requested_device="cpu",
            image_bytes=32,
            logit_scale=LOGIT_SCALE,
        )

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
        decoded = decoder.check(
            content, field, transparency=transparency, hashed=hashed, featured=featured, thumbnail_px=thumbnail_px
        )
        return EncoderInput(
            "image",
            hashlib.sha256(content).digest() if transparency is Transparency.DROP else decoded.digest(),
            low_content=decoded.low_content(),
            fully_transparent=decoded.fully_transparent,
            perceptual_hash=decoded.perceptual_hash,
            local_features=decoded.local_features,
            thumbnail=decoded.thumbnail,
        )

    def prepare_text(self, text: str) -> EncoderInput:
        words = len(text.split())
        return EncoderInput("text", hashlib.sha256(text.encode()).digest(), truncated=words > CONTEXT_WORDS)

    def workers(self) -> Sequence[Worker]:
        return [self.compute]

    def compute(self, batch: Sequence[EncoderInput]) -> Sequence[Vector]:
        return [self._vector(item.data) for item in batch]

    def devices(self) -> Sequence[DeviceFacts]:
        return [describe_cpu(1)]

    def _vector(self, digest: bytes) -> Vector:
        seed = self.facts.name.encode() + b"/" + digest
        numbers = np.frombuffer(hashlib.shake_256(seed).digest(DIMENSIONS[self.facts.name] * 4), dtype="<u4")
        return (numbers / 2.0**31 - 1).astype(np.float32)
