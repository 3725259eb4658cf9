"""Points of an image with descriptors, and which points of two images are alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lensmesh.common.v1 import common_pb2
from router_svc.matching.opencv import opencv

Floats: TypeAlias = NDArray[np.float32]
Places: TypeAlias = NDArray[np.intp]

MOST_POINTS: Final = 1_000
_FULL: Final = 65_535
_DESCRIPTOR_BYTES: Final = {common_pb2.LOCAL_FEATURE_KIND_ORB: 32, common_pb2.LOCAL_FEATURE_KIND_ROOTSIFT: 128}
# Lowe's: the second nearest descriptor is to be so much farther away than the nearest. Of bits, few of which differ by
# chance alone, more pairs are kept by a bound on their distance.
_RATIO: Final[Mapping[int, float]] = {
    common_pb2.LOCAL_FEATURE_KIND_ORB: 0.9,
    common_pb2.LOCAL_FEATURE_KIND_ROOTSIFT: 0.8,
}
_MOST_BITS: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class LocalPoints:
    """Points of one image."""

    kind: int
    """LocalFeatureKind."""
    places: Floats
    """Shape (n, 2), in units of the image's longer side."""
    descriptors: NDArray[Any]
    """Shape (n, d): bits as uint8 for ORB, numbers as float32 for RootSIFT."""

    def __len__(self) -> int:
        return len(self.places)


def points_of(features: common_pb2.LocalFeatures) -> LocalPoints | None:
    """Read the points of an image; None for a kind or a length that is none of the contract's."""
    width = _DESCRIPTOR_BYTES.get(features.kind)
    count = len(features.points) // 4
    if width is None or count > MOST_POINTS or len(features.points) != 4 * count:
        return None
    if len(features.descriptors) != width * count:
        return None
    places = np.frombuffer(features.points, "<u2").reshape(count, 2).astype(np.float32) / np.float32(_FULL)
    descriptors = np.frombuffer(features.descriptors, np.uint8).reshape(count, width)
    is_bits = features.kind == common_pb2.LOCAL_FEATURE_KIND_ORB
    return LocalPoints(features.kind, places, descriptors if is_bits else descriptors.astype(np.float32))


def alike(query: LocalPoints, item: LocalPoints) -> tuple[Places, Places]:
    """Return which points of two images are alike: indexes into the one and into the other, pair by pair.

    A pair is a query's point and the item's nearest one by descriptor, if the second nearest is much farther away
    (Lowe 2004), no other point of the query is nearer to it, and at most a quarter of ORB's bits differ.
    """
    cv2: Any = opencv()
    nobody = np.empty(0, np.intp)
    if query.kind != item.kind or not len(query) or len(item) < 2:
        return nobody, nobody
    is_bits = query.kind == common_pb2.LOCAL_FEATURE_KIND_ORB
    norm, numbers = (cv2.NORM_HAMMING, cv2.CV_32S) if is_bits else (cv2.NORM_L2, cv2.CV_32F)
    distances, nearest = cv2.batchDistance(query.descriptors, item.descriptors, numbers, normType=norm, K=2)
    is_clear = distances[:, 0] < _RATIO[query.kind] * distances[:, 1]
    clear = np.flatnonzero(is_clear & (distances[:, 0] <= _MOST_BITS) if is_bits else is_clear)
    # Of query points that lead to one point of the item, the nearest; of equal ones the first.
    order = clear[np.argsort(distances[clear, 0], kind="stable")]
    _, first = np.unique(nearest[order, 0], return_index=True)
    chosen = np.sort(order[first])
    return chosen, nearest[chosen, 0].astype(np.intp)
