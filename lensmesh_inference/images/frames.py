"""Frames of one colour around an image: borders that somebody added, bars beside an image of another shape.

A perceptual hash of the whole differs from that of what is inside. So the inside is hashed as well.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

# How far a frame's pixels may lie from its colour: compression makes as much beside an edge.
_SPREAD_LEVELS: Final = 24
_OUTLIERS: Final = 0.05
# A line whose median differs by more belongs to the image: a frame ends at a straight edge, all along.
_EDGE_LEVELS: Final = 4
# What is less is a line of a scan, and what is more is no frame but a small thing on a ground.
_LEAST_SHARE: Final = 0.01
_MOST_SHARE: Final = 0.25


def inside(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | None:
    """Return what a frame surrounds, as a view, or None where an image of shape (height, width, 3) has no frame.

    A side of the frame is up to a quarter of the image, and may be missing: bars above and below are a frame too.
    """
    green = pixels[:, :, 1]
    height, width = green.shape
    top, bottom = _depth(green), _depth(green[::-1])
    # Rows of the frame say nothing of its columns, nor of where these end.
    middle = green[top : height - bottom].T
    left, right = _depth(middle), _depth(middle[::-1])
    if (top + bottom) < _LEAST_SHARE * height and (left + right) < _LEAST_SHARE * width:
        return None
    return pixels[top : height - bottom, left : width - right]


def _depth(lines: npt.NDArray[np.uint8]) -> int:
    """Return how many of the first lines are the frame's; 0 where they end at no straight edge."""
    colour = int(np.median(lines[0]))
    if not _plain(lines[:1], colour)[0]:
        return 0
    most = int(len(lines) * _MOST_SHARE)
    some: Any = lines[: most + 1]
    medians = np.median(some, axis=1)
    kept = (np.abs(medians - colour) <= _EDGE_LEVELS) & _plain(some, colour)
    first = int(np.argmin(kept))
    if kept[first] or abs(medians[first] - colour) <= _EDGE_LEVELS:
        return 0
    return first


def _plain(lines: npt.NDArray[np.uint8], colour: int) -> npt.NDArray[np.bool_]:
    """Tell of each line whether nearly all of its pixels have a colour."""
    far = np.abs(lines.astype(np.int16) - colour) > _SPREAD_LEVELS
    plain: npt.NDArray[np.bool_] = far.mean(axis=1) <= _OUTLIERS
    return plain
