"""Vectors in the cache."""

from __future__ import annotations

from typing import Final

import numpy as np

from encoder_svc.model import Embedded, EncoderFacts, Modality
from lensmesh_inference.images.transparency import Transparency

_NUMBERS: Final = np.dtype("<f4")
_TRUNCATED, _LOW_CONTENT, _CLEAR = 1, 2, 4
_FLAGS: Final = _TRUNCATED | _LOW_CONTENT | _CLEAR
# Releases that knew nothing of an image's content wrote no such bit: what they kept is computed again.
_KNOWN: Final = 0x80


def scope_of(facts: EncoderFacts, modality: Modality, transparency: Transparency) -> str:
    """What names the vectors of a model's images, or of its texts.

    They are kept as the model makes them, so that its unit-length space and its raw one share them. Of texts all its
    spaces do.
    """
    on_white = modality == "image" and transparency is Transparency.WHITE
    return f"{facts.spaces[0].id}:{modality}" + (":white" if on_white else "")


class VectorCodec:
    """A vector of `dimension` numbers: each 4 bytes, little-endian; then one byte, `_KNOWN` and a bit for each flag."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension

    def dump(self, value: Embedded) -> bytes:
        """The payload."""
        flags = _TRUNCATED * value.truncated | _LOW_CONTENT * value.low_content | _CLEAR * value.fully_transparent
        return value.vector.astype(_NUMBERS).tobytes() + bytes([_KNOWN | flags])

    def load(self, payload: bytes) -> Embedded | None:
        """The vector; None for bytes that are none of this dimension."""
        if len(payload) != self._dimension * _NUMBERS.itemsize + 1 or payload[-1] & ~_FLAGS != _KNOWN:
            return None
        flags = payload[-1]
        vector = np.frombuffer(payload, _NUMBERS, self._dimension).astype(np.float32)
        if not np.isfinite(vector).all():
            return None
        return Embedded(vector, bool(flags & _TRUNCATED), bool(flags & _LOW_CONTENT), bool(flags & _CLEAR))
