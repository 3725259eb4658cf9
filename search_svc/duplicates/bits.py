"""Distances of many perceptual hashes at once, as numbers of differing bits."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from search_svc.hashes import HASH_BYTES

Words: TypeAlias = NDArray[np.uint64]
"""Hashes in four words of 64 bits: of shape (4, count), so that one word of all of them lies together."""
Bits: TypeAlias = NDArray[np.uint8]

WORDS = HASH_BYTES // 8
_BITS_OF_16 = np.array([value.bit_count() for value in range(1 << 16)], dtype=np.uint8)


def words_of(hashes: bytes) -> Words:
    """Return hashes that stand one behind the other, 32 bytes each, as words."""
    return np.ascontiguousarray(np.frombuffer(hashes, dtype=np.uint64).reshape(-1, WORDS).T)


def _count_by_table(words: Words) -> Bits:
    bits: Bits = _BITS_OF_16[words.view(np.uint16)].reshape(*words.shape, 4).sum(axis=-1, dtype=np.uint8)
    return bits


# numpy 1 has no such function.
count_bits: Callable[[Words], Bits] = getattr(np, "bitwise_count", _count_by_table)


def all_distances(some: Words, others: Words) -> NDArray[np.int16]:
    """Return the distances of each of `some` from each of `others`, of shape (count of some, count of others)."""
    total = np.zeros((some.shape[1], others.shape[1]), dtype=np.int16)
    for one, other in zip(some, others, strict=True):
        total += count_bits(one[:, None] ^ other[None, :])
    return total
