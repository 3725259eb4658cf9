"""Hashes that tests make: drawn by chance, and altered by so many bits."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from search_svc.hashes import HASH_BITS, HASH_BYTES, PerceptualHash


def hash_of(seed: int) -> bytes:
    """A hash by chance, far from all others."""
    return np.random.default_rng(seed).bytes(HASH_BYTES)


def altered(hash_: bytes, bits: Iterable[int]) -> bytes:
    """The same but for these bits."""
    value = int.from_bytes(hash_, "big")
    for bit in bits:
        value ^= 1 << bit
    return value.to_bytes(HASH_BYTES, "big")


def some_bits(rng: np.random.Generator, count: int) -> list[int]:
    """So many bits by chance."""
    return [int(bit) for bit in rng.choice(HASH_BITS, count, replace=False)]


def distance(one: bytes, other: bytes) -> int:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()


def perceptual(seed: int, *bits: int, quality: int = 90) -> PerceptualHash:
    """A hash by chance, but for these bits."""
    return PerceptualHash(altered(hash_of(seed), bits), quality)


def words(hashes: Iterable[bytes]) -> NDArray[np.uint64]:
    """As the comparison takes them."""
    return np.ascontiguousarray(np.frombuffer(b"".join(hashes), dtype=np.uint64).reshape(-1, 4).T)
