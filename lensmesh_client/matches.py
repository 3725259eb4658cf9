"""Matches: which entry of a collection an image shows, and what that rests on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from lensmesh_chassis.errors import LensmeshError
from lensmesh_client.stored import Item
from lensmesh_client.types import Timings


class MatchVerdict(StrEnum):
    """Word on whether an image shows the entry that fits best."""

    MATCH = "match"
    """It does."""
    UNSURE = "unsure"
    """It may: a person should look."""
    NO_MATCH = "no match"
    """It shows no entry that was found."""


class MatchBasis(StrEnum):
    """Kind of evidence that speaks most for an entry."""

    CONTENT_DIGEST = "content digest"
    """The same bytes."""
    GEOMETRY = "geometry"
    """Local features, many of which one change of perspective brings to their like."""
    PERCEPTUAL_HASH = "perceptual hash"
    """Hashes that differ in few bits: a copy that was not cropped or turned."""
    VECTOR = "vector"
    """The cosine of the vectors, and by how much the next entry's is less."""


@dataclass(frozen=True, slots=True)
class MatchGeometry:
    """Comparison of the local features of an image and of an item."""

    inlier_count: int
    """Pairs of points that one change of perspective explains."""
    tentative_count: int
    """Pairs of points whose descriptors are alike."""
    query_point_count: int = 0
    item_point_count: int = 0
    homography: tuple[float, ...] = ()
    """Nine numbers, row by row, that map points of the image to those of the item, in units of each one's longer side;
    empty without inliers."""
    pairs: tuple[tuple[float, float, float, float], ...] = ()
    """Some of the inliers, 64 at most: x and y in the image, x and y in the item, in the same units."""
    place_count: int = 0
    """Different places of the inliers: few are one part that the images share."""


@dataclass(frozen=True, slots=True, eq=False)
class MatchCandidate:
    """An entry that an image may show, by its view that fits best."""

    item: Item
    """The view."""
    confidence: float
    """Certainty that the image shows it, 0 to 1."""
    basis: MatchBasis | None
    """None for one that this client does not know."""
    entry: tuple[object, ...] | None = None
    """Values of `entry_fields`, in their order; None without them, and where the item lacks one."""
    cosine: float | None = None
    """Similarity of the vectors, -1 to 1; None where the hash alone found it."""
    hash_distance: int | None = None
    """Bits in which the perceptual hashes differ, 0 to 31; None where they differ in more, where one
    is missing or says too little, and where nearer items took all places of `candidates`."""
    geometry: MatchGeometry | None = None
    """None where local features were not compared."""

    @property
    def id(self) -> str:
        """The view's `Item.id`."""
        return self.item.id


@dataclass(frozen=True, slots=True, eq=False)
class MatchResult:
    """Entry that an image shows, or why that is not known. Exactly one of `verdict` and `error` is set."""

    verdict: MatchVerdict | None = None
    best: MatchCandidate | None = None
    """The entry that fits best, whatever the verdict; None where there was nothing to find."""
    alternatives: tuple[MatchCandidate, ...] = ()
    """The next entries, best first, as many as were asked for."""
    ambiguous: bool = False
    """True where another entry matches about as well, so that the verdict is UNSURE."""
    error: LensmeshError | None = None
    encode: Timings = field(default_factory=Timings)
    store_us: int = 0
    """Time in the store, in microseconds, with the images that were asked together."""
    verify_us: int = 0
    """Time that comparing local features took, in microseconds."""

    @property
    def matched(self) -> MatchCandidate | None:
        """The entry that the image shows for sure; None where it is unsure or none. Raises the image's error."""
        if self.error is not None:
            raise self.error
        return self.best if self.verdict is MatchVerdict.MATCH else None
