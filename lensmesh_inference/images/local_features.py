"""Local features: an image's most distinct points, each with a descriptor of what lies around it.

They are ORB's (Rublee et al. 2011, "ORB: an efficient alternative to SIFT or SURF"): corners by FAST in eight sizes of
the image, each described by 256 comparisons of pixels around it. The strongest are kept, but not too many of any part
of the image.

OpenCV computes them (the extra `match`). It is imported with the first image that they are asked of.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images.jpeg import decode_jpeg, part_of
from lensmesh_inference.images.orientation import UPRIGHT, is_sideways, turned

if TYPE_CHECKING:
    from types import ModuleType

Pixels: TypeAlias = npt.NDArray[np.uint8]

# What `lensmesh_chassis.encode_answers` counts on.
MAX_POINTS: Final = 450
POINT_BYTES: Final = 4
DESCRIPTOR_BYTES: Final = 32
MAX_BYTES: Final = MAX_POINTS * (POINT_BYTES + DESCRIPTOR_BYTES)
"""The most bytes of an image's features: some 16 kB."""
# The longer side of what points are searched in. A smaller image is enlarged: it is to have points of the same sizes.
_SIDE_PX: Final = 384
# A narrow image would have no pixel that is far enough from its edges.
_LEAST_SIDE_PX: Final = 96
_MOST_SIDE_PX: Final = 1152
# Around a corner that is described, in pixels of each of the eight sizes.
_EDGE_PX: Final = 15
# In grey levels: drawings and blurred photographs have weak corners alone.
_FAST_LEVELS: Final = 7
_CANDIDATES: Final = 1_000
# The image is cut into 8 x 8 cells, and no cell takes all points: a part of the image is to be recognised as well.
_CELLS: Final = 8
_MOST_IN_CELL: Final = 20
_FULL: Final = 65_535


@dataclass(frozen=True)
class LocalFeatures:
    """Points of an image, the strongest first, and their descriptors; empty for an image without a corner.

    `points` holds of each x and y as two little-endian uint16, in 1/65535 of the image's longer side. `descriptors`
    holds 32 bytes of each, to be compared by the bits in which they differ.
    """

    points: bytes = b""
    descriptors: bytes = b""

    @property
    def count(self) -> int:
        """The number of points."""
        return len(self.points) // POINT_BYTES


def supported() -> bool:
    """Tell whether OpenCV is installed."""
    # `importlib.util.find_spec` trusts an imported module, and OpenCV's has no spec while a thread imports it.
    return PathFinder.find_spec("cv2") is not None


@functools.cache
def opencv() -> ModuleType:
    """Return OpenCV, set up for a process in which many threads work at images: it starts no threads of its own.

    Raises ``PreconditionFailed`` where it cannot be imported.
    """
    try:
        import cv2
    except ImportError as error:
        raise unsupported(str(error)) from error
    cv2.setNumThreads(1)
    return cv2


def unsupported(why: str) -> PreconditionFailed:
    """Return the error of a process that makes no local features."""
    return PreconditionFailed(
        Reason.LOCAL_FEATURES_UNSUPPORTED,
        f"This encoder makes no local features ({why}): install lensmesh[match] there, or leave local_features out.",
    )


def features_of(pixels: Pixels, stored_as: int = UPRIGHT) -> LocalFeatures:
    """Return the features of an image of shape (height, width, 3) that is stored in one of EXIF's orientations.

    It takes some ten milliseconds, and memory for little more than 384 x 384 pixels, whatever the image's own size is.
    Raises ``PreconditionFailed`` where OpenCV cannot be imported.
    """
    cv2: Any = opencv()
    height, width = pixels.shape[:2]
    rows, columns = _searched(height, width)
    method = cv2.INTER_AREA if rows < height else cv2.INTER_CUBIC
    # Turned when it is small: the turning is then almost free.
    small = turned(cv2.resize(pixels, (columns, rows), interpolation=method).transpose(2, 0, 1), stored_as)
    grey = cv2.cvtColor(np.ascontiguousarray(small.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY)
    search = cv2.ORB_create(nfeatures=_CANDIDATES, fastThreshold=_FAST_LEVELS, edgeThreshold=_EDGE_PX)
    found, descriptors = search.detectAndCompute(grey, None)
    if not found or descriptors is None:
        return LocalFeatures()
    places = np.array([one.pt for one in found], np.float32)
    chosen = _spread(places, np.array([one.response for one in found], np.float32), (grey.shape[1], grey.shape[0]))
    # From what was searched, whose pixels have their middles at whole numbers, to parts of the image's longer side.
    sides = (height, width) if is_sideways(stored_as) else (width, height)
    shares = np.array(sides) / (np.array(grey.shape[::-1]) * max(height, width))
    points = np.rint((places[chosen] + 0.5) * shares * _FULL).clip(0, _FULL).astype("<u2")
    return LocalFeatures(points.tobytes(), np.ascontiguousarray(descriptors[chosen], np.uint8).tobytes())


def features_of_jpeg(
    content: bytes, size: tuple[int, int], stored_as: int, field: str, *, inks: bool, complete: bool | None = None
) -> LocalFeatures:
    """Decode a JPEG at the size that its features are made from, and return those of the upright image.

    The parameters are those of `decode_jpeg`; `stored_as` is EXIF's orientation. Raises what `decode_jpeg` raises.
    """
    width, height = size
    pixels, _ = decode_jpeg(content, size, _searched(height, width), field, inks=inks, complete=complete)
    return features_of(pixels, stored_as)


def jpeg_part(height: int, width: int) -> int:
    """Return n where the features of a JPEG of this size are made from an n-th of it. Settings do not change that."""
    return part_of(height, width, _searched(height, width))


def _searched(height: int, width: int) -> tuple[int, int]:
    """Return the height and width to which an image is scaled."""
    longer, shorter = max(height, width), min(height, width)
    scale = max(_SIDE_PX / longer, min(_LEAST_SIDE_PX / shorter, _MOST_SIDE_PX / longer))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _spread(
    places: npt.NDArray[np.float32], strengths: npt.NDArray[np.float32], sides: tuple[int, int]
) -> npt.NDArray[np.intp]:
    """Return the indexes of the points that are kept, the strongest first. `sides` are the width and height."""
    order = np.argsort(-strengths, kind="stable")
    across, down = (places[order] * _CELLS / np.array(sides)).astype(np.intp).T
    cells = down * _CELLS + across
    by_cell = np.argsort(cells, kind="stable")
    firsts = np.searchsorted(cells[by_cell], cells[by_cell])
    crowded = np.empty(len(order), bool)
    crowded[by_cell] = np.arange(len(order)) - firsts >= _MOST_IN_CELL
    # Where too few are left, the strongest of crowded cells fill up.
    kept = np.sort(np.argsort(crowded, kind="stable")[:MAX_POINTS])
    chosen: npt.NDArray[np.intp] = order[kept]
    return chosen
