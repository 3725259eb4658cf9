"""Images of one colour, or nearly so. As vectors they are found by every search; as queries they find everything."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

SPREAD_LEVELS: Final = 12
"""The largest distance of grey levels within one colour. Compression and a sensor's noise make such distances."""
OUTLIERS: Final = 0.002
"""The share of pixels on either side that do not count, such as a speck of dust."""
_SAMPLED: Final = 8
"""The step between the rows and columns that are looked at first."""


def is_low_content(pixels: npt.NDArray[np.uint8], of: int = 0) -> bool:
    """Tell whether pixels of shape (3, height, width) are of one colour, or nearly so.

    They are if in each channel nearly all pixels lie within `SPREAD_LEVELS` grey levels of one another. A share of
    `OUTLIERS` of the pixels on either side does not count. `of` is the number of pixels of the whole image, where
    `pixels` are only a part of it: if the part is not of one colour, neither is the whole.
    """
    outliers = int(max(of, pixels[0].size) * OUTLIERS)
    # Nearly every image ends here: what is left out of all the pixels could not hide the spread of these few.
    if not _is_flat(pixels[1, ::_SAMPLED, ::_SAMPLED], outliers):
        return False
    return all(_is_flat(plane, outliers) for plane in pixels)


def _is_flat(plane: npt.NDArray[np.uint8], outliers: int) -> bool:
    if 2 * outliers >= plane.size:
        return True
    levels = np.cumsum(np.bincount(plane.ravel(), minlength=256))
    lowest = int(np.searchsorted(levels, outliers, side="right"))
    highest = int(np.searchsorted(levels, plane.size - outliers, side="left"))
    return highest - lowest <= SPREAD_LEVELS
