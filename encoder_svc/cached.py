"""Vectors in the cache."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np

from encoder_svc.model import Embedded, EncoderFacts, Modality
from lensmesh_inference.images.local_features import DESCRIPTOR_BYTES, POINT_BYTES, LocalFeatures
from lensmesh_inference.images.perceptual import HASH_BYTES, PerceptualHash
from lensmesh_inference.images.thumbnail import Thumbnail
from lensmesh_inference.images.transparency import Transparency

_NUMBERS: Final = np.dtype("<f4")
_TRUNCATED, _LOW_CONTENT, _CLEAR, _FEATURED, _SHOWN = 1, 2, 4, 8, 16
_FLAGS: Final = _TRUNCATED | _LOW_CONTENT | _CLEAR | _FEATURED | _SHOWN
# Releases that knew nothing of an image's content wrote no such bit: what they kept is computed again.
_KNOWN: Final = 0x80
# A byte for the quality and the hash, or two of them.
_HASH_PAYLOADS: Final = (0, 1 + HASH_BYTES, 1 + 2 * HASH_BYTES)
# The number of an image's points.
_COUNT: Final = np.dtype("<u2")
# Of a thumbnail: its width, its height and the length of its file.
_SIDES: Final = struct.Struct("<HHI")


def scope_of(
    facts: EncoderFacts,
    modality: Modality,
    transparency: Transparency,
    *,
    hashed: bool = False,
    featured: bool = False,
    thumbnail_px: int = 0,
) -> str:
    """Return the name under which the cache keeps the vectors of a model's images, or of its texts.

    The cache keeps vectors as the model makes them, so that the model's unit-length space and its raw one share them.
    All spaces of a model share the vectors of texts. Images on white have a name of their own. So have vectors that are
    kept with a perceptual hash, with local features or with a thumbnail: a vector without them does not answer who asks
    for both.
    """
    on_white = modality == "image" and transparency is Transparency.WHITE
    named = {":white": on_white, ":pdq": hashed, ":orb": featured, f":thumbnail-{thumbnail_px}": thumbnail_px > 0}
    return f"{facts.spaces[0].id}:{modality}" + "".join(name for name, given in named.items() if given)


class VectorCodec:
    """A codec for vectors of `dimension` numbers.

    A payload has 4 bytes for each number, little-endian. Where there is a perceptual hash, a byte for its quality and
    its bytes follow, and those of the hash within a frame. Where there are local features, their points follow, their
    descriptors, and the number of points in two bytes, little-endian. Where there is a thumbnail, its file follows, its
    width and height in two bytes each, and its length in four. The last byte holds `_KNOWN` and a bit for each flag.
    """

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension

    def dump(self, value: Embedded) -> bytes:
        """Return the payload of a vector and its flags."""
        flags = _TRUNCATED * value.truncated | _LOW_CONTENT * value.low_content | _CLEAR * value.fully_transparent
        perceptual, features = value.perceptual_hash, value.local_features
        parts = [value.vector.astype(_NUMBERS).tobytes()]
        if perceptual is not None:
            parts += [bytes([perceptual.quality]), perceptual.hash, perceptual.unframed]
        if features is not None:
            flags |= _FEATURED
            parts += [features.points, features.descriptors, np.array(features.count, _COUNT).tobytes()]
        if (shown := value.thumbnail) is not None:
            flags |= _SHOWN
            parts += [shown.content, _SIDES.pack(shown.width, shown.height, len(shown.content))]
        return b"".join([*parts, bytes([_KNOWN | flags])])

    def load(self, payload: bytes) -> Embedded | None:
        """Return the vector of a payload.

        Return None for bytes that are no finite vector of this dimension, or that lack `_KNOWN`.
        """
        vector_bytes = self._dimension * _NUMBERS.itemsize
        if len(payload) <= vector_bytes or payload[-1] & ~_FLAGS != _KNOWN:
            return None
        flags, rest = payload[-1], payload[vector_bytes:-1]
        thumbnail = None
        if flags & _SHOWN:
            thumbnail = _thumbnail(rest)
            if thumbnail is None:
                return None
            rest = rest[: len(rest) - len(thumbnail.content) - _SIDES.size]
        features = None
        if flags & _FEATURED:
            features = _local_features(rest)
            if features is None:
                return None
            rest = rest[: len(rest) - features.count * (POINT_BYTES + DESCRIPTOR_BYTES) - _COUNT.itemsize]
        vector = np.frombuffer(payload, _NUMBERS, self._dimension).astype(np.float32)
        if len(rest) not in _HASH_PAYLOADS or not np.isfinite(vector).all():
            return None
        return Embedded(
            vector,
            bool(flags & _TRUNCATED),
            bool(flags & _LOW_CONTENT),
            bool(flags & _CLEAR),
            _perceptual_hash(rest) if rest else None,
            features,
            thumbnail,
        )


def _perceptual_hash(payload: bytes) -> PerceptualHash:
    return PerceptualHash(payload[1 : 1 + HASH_BYTES], payload[0], payload[1 + HASH_BYTES :])


def _local_features(payload: bytes) -> LocalFeatures | None:
    """Read the features at the end of a payload; None where it is too short for them."""
    told, count_bytes = payload[: -_COUNT.itemsize], payload[-_COUNT.itemsize :]
    if len(count_bytes) < _COUNT.itemsize:
        return None
    count = int.from_bytes(count_bytes, "little")
    first, middle = len(told) - count * (POINT_BYTES + DESCRIPTOR_BYTES), len(told) - count * DESCRIPTOR_BYTES
    return LocalFeatures(told[first:middle], told[middle:]) if first >= 0 else None


def _thumbnail(payload: bytes) -> Thumbnail | None:
    """Read the thumbnail at the end of a payload; None where it is too short for one."""
    if len(payload) < _SIDES.size:
        return None
    width, height, size = _SIDES.unpack(payload[-_SIDES.size :])
    end = len(payload) - _SIDES.size
    return Thumbnail(payload[end - size : end], width, height) if 0 < size <= end else None
