"""Items that an image may show, and what speaks for each."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import IntEnum
from statistics import fmean, pstdev
from typing import Final

from google.protobuf import struct_pb2

from lensmesh.search.v1 import search_pb2
from router_svc.matching.confidence import hash_confidence
from router_svc.matching.geometry import Alignment

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


def set_z_scores(candidates: Collection[CandidateItem]) -> None:
    """Note how far each candidate's cosine stands out among those of the nearest other entries.

    An item that only its hash found is farther away than all that its vector found: it counts as the last of those.
    """
    nearest: dict[bytes, float] = {}
    for candidate in candidates:
        if candidate.cosine is not None:
            key = candidate.entry_key
            nearest[key] = max(nearest.get(key, -1.0), candidate.cosine)
    if not nearest:
        return
    order = sorted(nearest, key=nearest.__getitem__, reverse=True)[: _MOST_OTHERS + 1]
    least = nearest[order[-1]]
    for candidate in candidates:
        key = candidate.entry_key
        others = [nearest[other] for other in order if other != key][:_MOST_OTHERS]
        if len(others) >= _LEAST_OTHERS:
            cosine = least if candidate.cosine is None else candidate.cosine
            candidate.z_score = (cosine - fmean(others)) / (pstdev(others) + _LEAST_SPREAD)
