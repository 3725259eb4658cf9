"""The treatment of transparency: dropped, as open_clip does, or laid on white, as a page shows it.

Imports no torch. Every kind of transparency is converted to one alpha channel: a channel of its own (also
premultiplied), a palette with alpha, or one colour that is declared transparent (tRNS of PNG, GIF's index).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import numpy as np
from PIL import Image

_IHDR_DEPTH: Final = 24
"""The place where a PNG file tells its bits a sample."""


class Transparency(StrEnum):
    """The colours that a model sees where an image is transparent."""

    DROP = "drop"
    """The colours hidden under the alpha channel."""
    WHITE = "white"
    """White, as far as the alpha channel lets it through."""


def alpha_of(image: Image.Image, content: bytes) -> Image.Image | None:
    """Return the alpha channel of a loaded image, of mode L, or None where the image's mode is opaque.

    `content` is the encoded image: Pillow does not tell how many bits a sample had.
    """
    mode, key = image.mode, image.info.get("transparency")
    if mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        return image.getchannel(len(image.getbands()) - 1)
    if mode == "P":
        if isinstance(key, bytes):
            alphas = list(key[:256])
            return image.point(alphas + [255] * (256 - len(alphas)), "L")
        if isinstance(key, int):
            return image.point([0 if index == key else 255 for index in range(256)], "L")
        return image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if key is None:
        return None
    if mode.startswith("I;16") and isinstance(key, int):
        return _where(np.asarray(image) != key)
    if mode in ("1", "L") and isinstance(key, int):
        # Pillow scales samples of 2 and 4 bits to 8, but not the value that is declared transparent.
        depth = content[_IHDR_DEPTH] if content.startswith(b"\x89PNG") else 8
        scaled = key * 255 // (2**depth - 1) if mode == "L" and depth in (2, 4) else key
        return _where(np.asarray(image.convert("L")) != scaled)
    if mode == "RGB" and isinstance(key, tuple) and len(key) == len(image.getbands()):
        # Of samples of 16 bits, Pillow keeps the upper half.
        deep = content.startswith(b"\x89PNG") and content[_IHDR_DEPTH] == 16
        colour = [value >> 8 if deep else value for value in key]
        return _where((np.asarray(image) != colour).any(axis=2))
    return None


def on_white(rgb: Image.Image, alpha: Image.Image) -> Image.Image:
    """Return an RGB image laid on white: each pixel is mixed with white as its alpha says."""
    return Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)


def is_clear(alpha: Image.Image) -> bool:
    """Tell whether no pixel can be seen."""
    return alpha.getbbox() is None


def _where(visible: np.ndarray) -> Image.Image:
    return Image.fromarray(np.where(visible, np.uint8(255), np.uint8(0)))
