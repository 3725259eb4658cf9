"""Whether an image has anything to see: images of one colour are found by everything, and find everything."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

SPREAD_LEVELS: Final = 12
"""As far apart as the grey levels of one colour may lie: what compression and a sensor's noise make of it."""
OUTLIERS: Final = 0.002
"""Share of pixels on either side that do not count: a speck of dust."""
_SAMPLED: Final = 4
"""Every so many rows and columns are looked at first."""


def is_low_content(pixels: npt.NDArray[np.uint8]) -> bool:
    """Return whether pixels of shape (3, height, width) are of one colour, or nearly so.

    They are where in each channel all but `OUTLIERS` of the pixels on either side lie within `SPREAD_LEVELS` grey
    levels of one another.
    """
    outliers = int(pixels[0].size * OUTLIERS)
    # Nearly every image ends here: what is left out of all the pixels could not hide the spread of these few.
    return _is_flat(pixels[1:2, ::_SAMPLED, ::_SAMPLED], outliers) and _is_flat(pixels, outliers)


def _is_flat(pixels: npt.NDArray[np.uint8], outliers: int) -> bool:
    for plane in pixels:
        levels = np.cumsum(np.bincount(plane.ravel(), minlength=256))
        if 2 * outliers >= plane.size:
            continue
        lowest = int(np.searchsorted(levels, outliers, side="right"))
        highest = int(np.searchsorted(levels, plane.size - outliers, side="left"))
        if highest - lowest > SPREAD_LEVELS:
            return False
    return True
