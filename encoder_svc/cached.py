"""Vectors in the cache."""

from __future__ import annotations

from typing import Final

import numpy as np

from encoder_svc.model import Embedded, EncoderFacts, Modality
from lensmesh_inference.images.perceptual import HASH_BYTES, PerceptualHash
from lensmesh_inference.images.transparency import Transparency

_NUMBERS: Final = np.dtype("<f4")
_TRUNCATED, _LOW_CONTENT, _CLEAR = 1, 2, 4
_FLAGS: Final = _TRUNCATED | _LOW_CONTENT | _CLEAR
# Releases that knew nothing of an image's content wrote no such bit: what they kept is computed again.
_KNOWN: Final = 0x80
# A byte for the quality and the hash, or two of them.
_HASH_PAYLOADS: Final = (0, 1 + HASH_BYTES, 1 + 2 * HASH_BYTES)


def scope_of(facts: EncoderFacts, modality: Modality, transparency: Transparency, *, hashed: bool = False) -> str:
    """Return the name under which the cache keeps the vectors of a model's images, or of its texts.

    The cache keeps vectors as the model makes them, so that the model's unit-length space and its raw one share them.
    All spaces of a model share the vectors of texts. Images on white have a name of their own, and so have vectors that
    are kept with a perceptual hash: a vector without one does not answer who asks for both.
    """
    on_white = modality == "image" and transparency is Transparency.WHITE
    return f"{facts.spaces[0].id}:{modality}" + (":white" if on_white else "") + (":pdq" if hashed else "")


class VectorCodec:
    """A codec for vectors of `dimension` numbers.

    A payload has 4 bytes for each number, little-endian. Where there is a perceptual hash, a byte for its quality and
    its bytes follow, and those of the hash within a frame. The last byte holds `_KNOWN` and a bit for each flag.
    """

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension

    def dump(self, value: Embedded) -> bytes:
        """Return the payload of a vector and its flags."""
        flags = _TRUNCATED * value.truncated | _LOW_CONTENT * value.low_content | _CLEAR * value.fully_transparent
        perceptual = value.perceptual_hash
        hashed = b"" if perceptual is None else bytes([perceptual.quality]) + perceptual.hash + perceptual.unframed
        return value.vector.astype(_NUMBERS).tobytes() + hashed + bytes([_KNOWN | flags])

    def load(self, payload: bytes) -> Embedded | None:
        """Return the vector of a payload.

        Return None for bytes that are no finite vector of this dimension, or that lack `_KNOWN`.
        """
        vector_bytes = self._dimension * _NUMBERS.itemsize
        hashed = payload[vector_bytes:-1]
        if len(payload) <= vector_bytes or len(hashed) not in _HASH_PAYLOADS or payload[-1] & ~_FLAGS != _KNOWN:
            return None
        flags = payload[-1]
        vector = np.frombuffer(payload, _NUMBERS, self._dimension).astype(np.float32)
        if not np.isfinite(vector).all():
            return None
        return Embedded(
            vector,
            bool(flags & _TRUNCATED),
            bool(flags & _LOW_CONTENT),
            bool(flags & _CLEAR),
            _perceptual_hash(hashed) if hashed else None,
        )


def _perceptual_hash(payload: bytes) -> PerceptualHash:
    return PerceptualHash(payload[1 : 1 + HASH_BYTES], payload[0], payload[1 + HASH_BYTES :])
