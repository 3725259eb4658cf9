"""Perceptual hashes, and how all that are near to one are found without comparing each.

Two hashes that differ in at most 31 bits agree in one of their 16 bands of 16 bits, but for at most one bit: 16 bands
with two differences or more would make 32. So the candidates are the items that have, in one of the bands, one of the
17 values that are as near (multi-index hashing, Norouzi, Punjani and Fleet 2012). Each candidate is then compared, and
none is missed, in any store.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HASH_BYTES = 32
HASH_BITS = 8 * HASH_BYTES
# PDQ's own advice: below it a hash says too little, above the distance it is another image.
LEAST_QUALITY = 50
MAX_QUALITY = 100
MAX_DISTANCE = 31
_BAND_BITS = 16


@dataclass(frozen=True)
class PerceptualHash:
    """Looks of an image; see common.proto. `unframed` is empty where there is no frame."""

    hash: bytes
    quality: int
    unframed: bytes = b""

    @property
    def all(self) -> tuple[bytes, ...]:
        """All hashes of the image that may be compared: none, one or two."""
        if self.quality < LEAST_QUALITY:
            return ()
        return (self.hash, self.unframed) if self.unframed else (self.hash,)


def bands_of(hashes: Sequence[bytes]) -> list[int]:
    """Return the values of the bands of an image's hashes, each with the number of its band in its upper bits."""
    return sorted({_band(number, value) for each in hashes for number, value in enumerate(_values(each))})


def bands_near(hashes: Sequence[bytes]) -> list[int]:
    """Return the bands of which an item has one where one of its hashes is within `MAX_DISTANCE` of one of these."""
    flips = (0, *(1 << bit for bit in range(_BAND_BITS)))
    return sorted(
        {_band(number, value ^ flip) for each in hashes for number, value in enumerate(_values(each)) for flip in flips}
    )


def distances(query: Sequence[bytes], stored: Sequence[Sequence[bytes]]) -> NDArray[np.int64]:
    """Return how far each image is from the query, in bits: the least of its hashes' distances. Each has a hash."""
    asked = [int.from_bytes(each, "big") for each in query]
    return np.array(
        [
            min((one ^ int.from_bytes(other, "big")).bit_count() for one in asked for other in hashes)
            for hashes in stored
        ],
        dtype=np.int64,
    )


def score_of(distance: int) -> float:
    """Return the score of a distance in bits: 1 for equal hashes, 0 where every bit differs. float32 holds it."""
    return 1 - distance / HASH_BITS


def _values(hash_: bytes) -> Iterator[int]:
    return (int.from_bytes(hash_[place : place + 2], "big") for place in range(0, HASH_BYTES, 2))


def _band(number: int, value: int) -> int:
    return number << _BAND_BITS | value
