"""Local features of images: the client's own class, and the contracts' message."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason

if TYPE_CHECKING:  # imported where features are: whoever only ingests needs none of it
    import numpy as np
    from numpy.typing import NDArray


class LocalFeatureKind(StrEnum):
    """A way to find and describe the most distinct points of an image. Only features of one kind can be compared."""

    ORB = "orb"
    """Rublee et al. 2011: 32 bytes a point, compared by the bits in which they differ."""
    ROOTSIFT = "rootsift"
    """Lowe 2004, Arandjelovic and Zisserman 2012: 128 bytes a point, compared by Euclidean distance."""


KINDS = {
    common_pb2.LOCAL_FEATURE_KIND_ORB: LocalFeatureKind.ORB,
    common_pb2.LOCAL_FEATURE_KIND_ROOTSIFT: LocalFeatureKind.ROOTSIFT,
}
_NUMBERS = {word: number for number, word in KINDS.items()}
_POINT_BYTES = 4


@dataclass(frozen=True, slots=True, eq=False)
class LocalFeatures:
    """The most distinct points of an image, the strongest first, each with a descriptor of what lies around it."""

    kind: LocalFeatureKind | str
    points: NDArray[np.uint16]
    """uint16, shape (n, 2): x and y, in 1/65535 of the longer side of the upright image."""
    descriptors: NDArray[np.uint8]
    """uint8, shape (n, 32) for ORB and (n, 128) for ROOTSIFT."""


def features_of(message: common_pb2.LocalFeatures) -> LocalFeatures | None:
    """Translate features; None of a kind that this client has no word for."""
    import numpy as np

    kind = KINDS.get(message.kind)
    if kind is None:
        return None
    count = len(message.points) // _POINT_BYTES
    return LocalFeatures(
        kind,
        np.frombuffer(message.points, "<u2").astype(np.uint16).reshape(count, 2),
        np.frombuffer(message.descriptors, np.uint8).reshape(count, -1 if count else 0),
    )


def features_message(value: LocalFeatures, path: str) -> common_pb2.LocalFeatures:
    """Make the message of features. Raises InvalidInput for what are none; the service looks at their count."""
    import numpy as np

    try:
        kind = _NUMBERS[LocalFeatureKind(value.kind)]
    except ValueError as error:
        known = ", ".join(LocalFeatureKind)
        raise _invalid(f"{path}.kind", f"is {str(value.kind)[:80]!r}: use one of {known}") from error
    points, descriptors = np.asarray(value.points), np.asarray(value.descriptors)
    if points.dtype != np.uint16 or points.ndim != 2 or points.shape[1] != 2:
        raise _invalid(f"{path}.points", f"are {points.dtype} of shape {points.shape}: give uint16 of shape (n, 2)")
    if descriptors.dtype != np.uint8 or descriptors.ndim != 2 or len(descriptors) != len(points):
        raise _invalid(
            f"{path}.descriptors",
            f"are {descriptors.dtype} of shape {descriptors.shape}: give uint8, a row for each of {len(points)} points",
        )
    return common_pb2.LocalFeatures(kind=kind, points=points.astype("<u2").tobytes(), descriptors=descriptors.tobytes())


def _invalid(field: str, description: str) -> InvalidInput:
    return InvalidInput(Reason.FEATURES_INVALID, f"{field} {description}", field=field)
