"""Vectors in the cache."""

from __future__ import annotations

from typing import Final

import numpy as np

from encoder_svc.model import Embedded, Modality, ModelFacts

_NUMBERS: Final = np.dtype("<f4")


def scope_of(facts: ModelFacts, modality: Modality) -> str:
    """What names the vectors of a model's pictures, or of its texts.

    They are kept as the model makes them, so that its unit-length space and its raw one share them.
    """
    return f"{facts.spaces[0].id}:{modality}"


class VectorCodec:
    """A vector of `dimension` numbers: each 4 bytes, little-endian; then one byte, 1 where the text was cut, else 0."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension

    def dump(self, value: Embedded) -> bytes:
        """The payload."""
        return value.vector.astype(_NUMBERS).tobytes() + bytes([value.truncated])

    def load(self, payload: bytes) -> Embedded | None:
        """The vector; None for bytes that are none of this dimension."""
        if len(payload) != self._dimension * _NUMBERS.itemsize + 1 or payload[-1] > 1:
            return None
        vector = np.frombuffer(payload, _NUMBERS, self._dimension).astype(np.float32)
        return Embedded(vector, bool(payload[-1])) if np.isfinite(vector).all() else None
