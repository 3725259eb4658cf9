"""Drawing over two images side by side: which points agree, and where the one lies in the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from lensmesh_cli.thumbnails import Thumbnail

if TYPE_CHECKING:
    from lensmesh_client import MatchGeometry

GAP: Final = 0.06
"""Space between the two square frames, in units of a frame's side."""
MOST_LINES: Final = 24
"""More lines than these hide the images."""
# What lies farther away than this, in frames, is not drawn: a change of perspective may send a corner to the horizon.
_FARTHEST: Final = 3.0

Point: TypeAlias = tuple[float, float]


def drawing(query: Thumbnail, item: Thumbnail, geometry: MatchGeometry | None) -> str:
    """Return an SVG element that lies over both frames; "" where geometry says nothing.

    Frames are squares that hold their images whole and in the middle, so units of an image's longer side are units of
    a frame's side.
    """
    if geometry is None or not geometry.inlier_count:
        return ""
    lines = "".join(_line(query, item, pair) for pair in geometry.pairs[:: _step(len(geometry.pairs))])
    return (
        f'<svg viewBox="0 0 {2 + GAP} 1" aria-hidden="true">{_outline(query, item, geometry.homography)}{lines}</svg>'
    )


def _step(count: int) -> int:
    return max(1, math.ceil(count / MOST_LINES))


def _line(query: Thumbnail, item: Thumbnail, pair: tuple[float, float, float, float]) -> str:
    numbers = (*_in_frame(query, pair[:2], 0.0), *_in_frame(item, pair[2:], 1 + GAP))
    if not all(math.isfinite(number) and abs(number) < _FARTHEST for number in numbers):
        return ""
    x, y, u, v = (f"{number:.4f}" for number in numbers)
    return f'<path d="M{x} {y}L{u} {v}"/><circle cx="{x}" cy="{y}" r=".012"/><circle cx="{u}" cy="{v}" r=".012"/>'


def _outline(query: Thumbnail, item: Thumbnail, homography: Sequence[float]) -> str:
    """Return the outline of the query within the item's frame."""
    if len(homography) != 9:
        return ""
    longer = max(query.width, query.height)
    right, bottom = query.width / longer, query.height / longer
    corners = []
    for x, y in ((0.0, 0.0), (right, 0.0), (right, bottom), (0.0, bottom)):
        u, v, w = (sum(a * b for a, b in zip(homography[row : row + 3], (x, y, 1.0), strict=True)) for row in (0, 3, 6))
        if not w > 0:
            return ""
        point = _in_frame(item, (u / w, v / w), 0.0)
        if not all(math.isfinite(number) and abs(number) < _FARTHEST for number in point):
            return ""
        corners.append(point)
    points = " ".join(f"{x:.4f},{y:.4f}" for x, y in corners)
    # A nested element cuts off what lies outside of the item's frame.
    return f'<svg x="{1 + GAP}" y="0" width="1" height="1" viewBox="0 0 1 1"><polygon points="{points}"/></svg>'


def _in_frame(image: Thumbnail, point: Sequence[float], left: float) -> Point:
    longer = max(image.width, image.height)
    return left + point[0] + (1 - image.width / longer) / 2, point[1] + (1 - image.height / longer) / 2
