"""The limits of one encoded image, and of decoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


@dataclass(frozen=True)
class ImageLimits:
    """The limits of one encoded image."""

    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 50_000_000
    # The longer side divided by the shorter one, which a model scales to its own size: 1 x 10,000,000 pixels would
    # become terabytes there.
    max_side_ratio: int = 200


@dataclass(frozen=True)
class DecodeCosts:
    """The limits of what decoding may cost a process that serves models."""

    memory_bytes: int = 1536 * 1024 * 1024
    """The memory of all images that are decoded at a time. A third is for those whose header proves them cheap, two
    thirds are for the others, so that neither waits for the other."""
    cpu_s: float = 10
    """Seconds on a processor for one image whose header does not prove it cheap."""
    state_dir: str = ""
    """The folder that records which images were being decoded when a process ended; "": none."""
