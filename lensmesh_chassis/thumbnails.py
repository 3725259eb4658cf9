"""Limits of thumbnails, which the Encoder makes and the Router keeps."""

from __future__ import annotations

from typing import Final

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason

LEAST_PX: Final = 32
MOST_PX: Final = 1024
_HEADER_BYTES: Final = 1024


def most_bytes(px: int) -> int:
    """Return the most bytes of a thumbnail whose longer side has `px` pixels; 0 for 0.

    Noise takes three quarters of them at the quality of thumbnails, and a photograph a tenth.
    """
    return px * px + _HEADER_BYTES if px else 0


def check_thumbnail_px(px: int, field: str) -> None:
    """Raise ``InvalidInput``, naming `field`, for a longer side that is neither 0 nor within the limits."""
    if px and not LEAST_PX <= px <= MOST_PX:
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"{field} is {px}: use {LEAST_PX} to {MOST_PX} pixels, or 0 for no thumbnail.",
            field=field,
            metadata={"value": px, "least": LEAST_PX, "most": MOST_PX},
        )
