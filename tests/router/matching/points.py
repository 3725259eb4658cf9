"""Points made up for tests."""

import numpy as np
from numpy.typing import NDArray

from lensmesh.common.v1 import common_pb2
from router_svc.matching.local_points import LocalPoints, points_of

ORB, ROOTSIFT = common_pb2.LOCAL_FEATURE_KIND_ORB, common_pb2.LOCAL_FEATURE_KIND_ROOTSIFT
WIDTHS = {ORB: 32, ROOTSIFT: 128}
Places = NDArray[np.float64]
Descriptors = NDArray[np.uint8]


def features(
    places: Places, descriptors: Descriptors, kind: common_pb2.LocalFeatureKind.ValueType = ORB
) -> common_pb2.LocalFeatures:
    points = np.rint(places * 65_535).astype("<u2")
    return common_pb2.LocalFeatures(kind=kind, points=points.tobytes(), descriptors=descriptors.tobytes())


def points(places: Places, descriptors: Descriptors, kind: common_pb2.LocalFeatureKind.ValueType = ORB) -> LocalPoints:
    made = points_of(features(places, descriptors, kind))
    assert made is not None
    return made


def scattered(count: int, seed: int = 1, width: int = 32) -> tuple[Places, Descriptors]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0.2, 0.8, (count, 2)), rng.integers(0, 256, (count, width), np.uint8)


def turned(places: Places, degrees: float = 10, scale: float = 0.7) -> Places:
    angle = np.radians(degrees)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved: Places = (places - 0.5) @ matrix.T + 0.5
    return moved
