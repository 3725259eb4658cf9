"""Items that an image may show, and what speaks for each."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from google.protobuf import struct_pb2

from lensmesh.search.v1 import search_pb2
from router_svc.matching.confidence import hash_confidence
from router_svc.matching.geometry import Alignment
from router_svc.matching.looks import ItemLooks, looks_of

VECTOR_LEG, HASH_LEG = "vector", "hash"
_HASH_BITS = 256
# The nearest other entries are what a cosine stands out among. Fewer than the least have no spread to go by, and equal
# ones, as those of copies are, have none at all.
_LEAST_OTHERS, _MOST_OTHERS = 5, 20
_LEAST_SPREAD: Final = 0.003


class Basis(IntEnum):
    """Kind of evidence; a greater one tells more where confidences are equal."""

    VECTOR = 0
    PERCEPTUAL_HASH = 1
    GEOMETRY = 2
    CONTENT_DIGEST = 3


@dataclass(slots=True, eq=False)
class CandidateItem:
    """An item that an image may show."""

    item_id: str
    entry: struct_pb2.ListValue | None
    """Values of the entry's fields; None where it is an entry of its own."""
    cosine: float | None = None
    z_score: float | None = None
    """By how many standard deviations the cosine exceeds those of other entries; None where too few are known."""
    hash_distance: int | None = None
    same_bytes: bool = False
    is_looked_at: bool = False
    """True where its local features were asked for, whether or not there are any."""
    alignment: Alignment | None = None
    """None where its local features could not be compared with the image's."""
    looks: ItemLooks | None = None
    """None where its item was not read."""
    copy_of: str = ""
    """The first candidate that it is a copy of; empty where it is none, or where that is not known."""

    @property
    def image_key(self) -> str:
        """The same for candidates that are known to be copies of one another, and for no others."""
        return self.copy_of or self.item_id

    @property
    def entry_key(self) -> bytes:
        """The same bytes for all views of one entry, and for no others."""
        if self.entry is None:
            return b"i" + self.item_id.encode()
        return b"e" + self.entry.SerializeToString(deterministic=True)

    @property
    def promise(self) -> tuple[float, float]:
        """Order in which candidates are looked at, the greatest first: those that look the same, then the nearest."""
        looks = 0.0 if self.hash_distance is None else hash_confidence(self.hash_distance)
        return looks, self.cosine if self.cosine is not None else -1.0


def candidates_of(
    by_vector: Iterable[search_pb2.Hit], by_hash: Iterable[search_pb2.Hit], *, with_entries: bool
) -> list[CandidateItem]:
    """Join what both searches found, each item once, the most promising first."""
    found: dict[str, CandidateItem] = {}
    for leg, hits in ((VECTOR_LEG, by_vector), (HASH_LEG, by_hash)):
        for hit in hits:
            entry = hit.group if with_entries and hit.HasField("group") else None
            candidate = found.setdefault(hit.item.id, CandidateItem(hit.item.id, entry))
            if leg == VECTOR_LEG:
                candidate.cosine = hit.score
            else:
                candidate.hash_distance = round((1 - hit.score) * _HASH_BITS)
    set_z_scores(found.values())
    return sorted(found.values(), key=lambda each: (*(-part for part in each.promise), each.item_id))


def learn(candidates: Collection[CandidateItem], items: Mapping[str, search_pb2.Item], digest: bytes) -> None:
    """Take what items that were read tell of an image's candidates: the same bytes, and copies of one another.

    Args:
        candidates: all of the image's, the most promising first.
        items: by id.
        digest: SHA-256 of the image's bytes.
    """
    firsts = [(each.looks, each.item_id) for each in candidates if each.looks is not None and not each.copy_of]
    any_copy = False
    for candidate in candidates:
        item = items.get(candidate.item_id)
        if item is None:
            continue
        candidate.same_bytes = item.content_digest == digest
        if candidate.looks is None:
            candidate.looks = looks = looks_of(item)
            candidate.copy_of = next((item_id for first, item_id in firsts if first.same_as(looks)), "")
            if candidate.copy_of:
                any_copy = True
            else:
                firsts.append((looks, candidate.item_id))
    if any_copy:
        # Copies say nothing against one another.
        set_z_scores(candidates)


def set_z_scores(candidates: Collection[CandidateItem]) -> None:
    """Note how far each candidate's cosine stands out among those of the nearest other entries.

    Entries whose nearest views are copies of one another count once, and not for those copies. An item that only its
    hash found is farther away than all that its vector found: it counts as the last of those.
    """
    order = _nearest_of_entries(candidates)
    if not order:
        return
    least = order[: _MOST_OTHERS + 1][-1][0]
    for candidate in candidates:
        key, image = candidate.entry_key, candidate.image_key
        others = [cosine for cosine, entry, shown in order if entry != key and shown != image][:_MOST_OTHERS]
        candidate.z_score = None
        if len(others) >= _LEAST_OTHERS:
            cosine = least if candidate.cosine is None else candidate.cosine
            # The statistics module is exact, which takes ten times as long.
            mean = sum(others) / len(others)
            spread = math.sqrt(sum((other - mean) ** 2 for other in others) / len(others))
            candidate.z_score = (cosine - mean) / (spread + _LEAST_SPREAD)


def _nearest_of_entries(candidates: Iterable[CandidateItem]) -> list[tuple[float, bytes, str]]:
    """Return the cosine, the entry and the image of each entry's nearest view, nearest first, each image once."""
    chosen: list[tuple[float, bytes, str]] = []
    entries: set[bytes] = set()
    images: set[str] = set()
    for cosine, entry, image in by_cosine(candidates):
        if entry not in entries:
            entries.add(entry)
            if image not in images:
                images.add(image)
                chosen.append((cosine, entry, image))
    # Enough for each candidate, whose entry and whose image are left out.
    return chosen[: _MOST_OTHERS + 2]


def by_cosine(candidates: Iterable[CandidateItem]) -> list[tuple[float, bytes, str]]:
    """Return the cosine, the entry's key and the image's key of all that have a cosine, nearest first."""
    found = [(each.cosine, each.entry_key, each.image_key) for each in candidates if each.cosine is not None]
    return sorted(found, key=lambda each: -each[0])
