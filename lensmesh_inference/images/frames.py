"""Frames of one colour around an image: borders that somebody added, bars beside an image of another shape.

A perceptual hash of the whole differs from that of what is inside. So the inside is hashed as well.

Only luminance counts, as for the hash: JPEG keeps colours at half the size, and they reach a pixel beyond an edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Pixels: TypeAlias = npt.NDArray[np.uint8]
Levels: TypeAlias = npt.NDArray[np.float32]

_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
# How far a frame's pixels may lie from its colour: compression makes as much beside an edge.
_SPREAD_LEVELS: Final = 24
_OUTLIERS: Final = 0.05
# A line belongs to the image where so many of its pixels differ by more: a frame ends at a straight edge, all along.
_EDGE_LEVELS: Final = 4
_ALONG: Final = 0.3
# Where a frame is hardly darker or paler than what it surrounds, its lines are as good as exactly of its colour.
_FAINT_LEVELS: Final = 3
# Compression and blur change as many lines before an edge: it lies at the first step of half the height of the highest.
_WINDOW_LINES: Final = 8
_STEEP: Final = 0.5
# What is less is a line of a scan, and what is more is no frame but a small thing on a ground.
_LEAST_SHARE: Final = 0.01
_MOST_SHARE: Final = 0.25
# Of one block. Most frames end within the first.
_BLOCK_LINES: Final = 32


@dataclass(frozen=True)
class _Side:
    """One side of an image. Depths are in lines.

    `lines` are as many as a frame may have. `edge` is the depth of one that ends at a straight edge, or 0; `flat` lines
    are as good as exactly of the first one's colour.
    """

    lines: Pixels
    colour: float = 0.0
    edge: int = 0
    flat: int = 0


def inside(pixels: Pixels) -> Pixels | None:
    """Return what a frame surrounds, as a view, or None where an image of shape (height, width, 3) has no frame.

    A side of the frame is up to a quarter of the image, and may be missing: bars above and below are a frame too.
    """
    height, width = pixels.shape[:2]
    top, bottom = _side(pixels), _side(pixels[::-1])
    # Rows of the frame say nothing of its columns, nor of where these end.
    columns = pixels[top.edge : height - bottom.edge].transpose(1, 0, 2)
    sides = (top, bottom, _side(columns), _side(columns[::-1]))
    above, below, left, right = _depths(sides)
    if (above + below) < _LEAST_SHARE * height and (left + right) < _LEAST_SHARE * width:
        return None
    return pixels[above : height - below, left : width - right]


def _depths(sides: tuple[_Side, _Side, _Side, _Side]) -> tuple[int, ...]:
    """Return how many lines of each side are the frame's.

    The image may be of the frame's colour at some sides, so that no edge is seen there. A frame that is as wide all
    around is cut there as well.
    """
    found = [bool(side.edge) for side in sides]
    depths = tuple(side.edge for side in sides)
    # Two opposite sides are bars, and the image ends at the other two.
    if all(found) or found in ([True, True, False, False], [False, False, True, True]):
        return depths
    colours = [side.colour for side in sides]
    if max(colours) - min(colours) > _FAINT_LEVELS:
        return depths
    if any(found):
        width = min(depth for depth in depths if depth)
        around = all(side.edge or side.flat >= max(1, width - 1) for side in sides)
        return tuple(depth or width for depth in depths) if around else depths
    width = min(side.flat for side in sides)
    faint = [_edge(side.lines, side.colour, side.flat, _FAINT_LEVELS) for side in sides if side.flat <= width + 1]
    return (min(filter(None, faint), default=0),) * 4


def _side(lines: Pixels) -> _Side:
    """Look at the first lines of an image of shape (lines, length, 3), as deep as a frame may be."""
    first = lines[:1].astype(np.float32) @ _LUMA
    colour = float(np.median(first))
    beside = np.abs(first - colour)
    if not _within(beside, _SPREAD_LEVELS)[0]:
        return _Side(lines[:0])
    # Grain lies on a frame as on the rest.
    grain = float(_reach(beside)[0])
    lines = lines[: int(len(lines) * _MOST_SHARE) + 1]
    flat: int | None = None
    edge = 0
    for start in range(0, len(lines), _BLOCK_LINES):
        far = _far(lines[start : start + _BLOCK_LINES], colour)
        if flat is None:
            flat = _first(~_within(far, _FAINT_LEVELS), start)
        plain = _within(far, _SPREAD_LEVELS) & _within(far, _EDGE_LEVELS + grain, _ALONG)
        ended = _first(~plain, start)
        if ended is not None:
            edge = _edge(lines, colour, ended, _EDGE_LEVELS)
            break
    return _Side(lines, colour, edge, len(lines) if flat is None else flat)


def _edge(lines: Pixels, colour: float, ended: int, least: float) -> int:
    """Return where a straight edge of more than `least` levels lies, at most a few lines behind `ended`; 0: nowhere."""
    if not 0 < ended < len(lines):
        return 0
    start = max(0, ended - 3)
    levels = _reach(_far(lines[start : ended + _WINDOW_LINES], colour))
    steps = np.diff(levels)[ended - start - 1 :]
    steepest = int(np.argmax(steps))
    behind = ended - start + steepest
    if levels[min(behind + 1, len(levels) - 1)] - levels[max(behind - 2, 0)] <= least:
        return 0
    return ended + int(np.argmax(steps >= _STEEP * steps[steepest]))


def _far(lines: Pixels, colour: float) -> Levels:
    """Return how many levels of luminance each pixel lies from a colour."""
    luma: Levels = lines.astype(np.float32) @ _LUMA
    luma -= colour
    return np.abs(luma, out=luma)


def _reach(far: Levels) -> Levels:
    """Return of each line how far its pixels lie at most, but for as many as make an edge."""
    along = int(far.shape[1] * (1 - _ALONG))
    reach: Levels = np.partition(far, along, axis=1)[:, along]
    return reach


def _within(far: Levels, levels: float, but: float = _OUTLIERS) -> npt.NDArray[np.bool_]:
    """Tell of each line whether all of its pixels but a part lie within so many levels."""
    near: npt.NDArray[np.bool_] = np.count_nonzero(far > levels, axis=1) <= but * far.shape[1]
    return near


def _first(is_it: npt.NDArray[np.bool_], start: int) -> int | None:
    """Return the place of the first line of a block that is it, or None."""
    place = int(np.argmax(is_it))
    return start + place if is_it[place] else None
