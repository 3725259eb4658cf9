"""Local features of an image, as every store keeps them: points and descriptors, of one kind."""

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

MAX_POINTS = 1_000
POINT_BYTES = 4


class FeatureKind(IntEnum):
    """A way to find and describe the points of an image. The numbers are what stores keep."""

    ORB = 1
    ROOTSIFT = 2

    @property
    def descriptor_bytes(self) -> int:
        """Bytes of a point's descriptor."""
        return 32 if self is FeatureKind.ORB else 128


@dataclass(frozen=True)
class LocalFeatures:
    """Points and descriptors of an image; see common.proto."""

    kind: FeatureKind
    points: bytes
    descriptors: bytes

    @classmethod
    def joined(cls, kind: int, content: bytes) -> "LocalFeatures":
        """Return the features whose `content` a store kept."""
        known = FeatureKind(kind)
        end = len(content) // (POINT_BYTES + known.descriptor_bytes) * POINT_BYTES
        return cls(known, content[:end], content[end:])

    @property
    def content(self) -> bytes:
        """All points, then all descriptors, as stores keep them."""
        return self.points + self.descriptors

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return len(self.points) + len(self.descriptors)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the content: features of one kind and one digest are the same."""
        return hashlib.sha256(self.content).digest()
