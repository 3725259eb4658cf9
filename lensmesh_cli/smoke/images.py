"""Two small images that no mesh has seen before, so that no cache answers in place of a model."""

from __future__ import annotations

import io
import secrets

SIDE_PX = 96


def two_images() -> tuple[bytes, bytes]:
    """Draw a red disc on white and a blue square on black, as PNG."""
    return _drawn("white", "red", "ellipse"), _drawn("black", "blue", "rectangle")


def _drawn(ground: str, colour: str, shape: str) -> bytes:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (SIDE_PX, SIDE_PX), ground)
    getattr(ImageDraw.Draw(image), shape)((24, 24, 72, 72), fill=colour)
    # One row of noise makes its bytes unique and changes nothing that can be seen.
    for x in range(SIDE_PX):
        image.putpixel((x, 0), (secrets.randbelow(256),) * 3)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
