"""Looks of stored items: which of them are copies of one another."""

from dataclasses import dataclass
from typing import Final

from lensmesh.search.v1 import search_pb2

LEAST_QUALITY: Final = 50
"""Quality of a perceptual hash below which it says too little."""
# Bits in which the hashes of copies differ at most (docs/near-duplicates.md).
_COPY_BITS: Final = 31


@dataclass(frozen=True, slots=True)
class ItemLooks:
    """The marks by which copies of an item's image are known."""

    digest: bytes
    """SHA-256 of its file; empty where the item has none."""
    hashes: tuple[int, ...]
    """Its perceptual hashes; none where they say too little."""

    def same_as(self, other: "ItemLooks") -> bool:
        """Tell whether the other item has a copy of this one's image."""
        if self.digest and self.digest == other.digest:
            return True
        for mine in self.hashes:
            for its in other.hashes:
                if (mine ^ its).bit_count() <= _COPY_BITS:
                    return True
        return False


def looks_of(item: search_pb2.Item) -> ItemLooks:
    """Read the looks of an item."""
    told = item.perceptual_hash
    hashes = (told.hash, told.unframed) if told.quality >= LEAST_QUALITY else ()
    return ItemLooks(item.content_digest, tuple(int.from_bytes(each, "big") for each in hashes if each))
