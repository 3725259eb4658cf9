"""Decoding by Pillow, for every supported format.

Rules for each kind of image, all of them applied before any resizing (open_clip's transform, given a palette image,
would resize the palette's indices):

- Of an animation or a file of several pages the first frame is taken.
- Grey of 16 bits is scaled to 8 bits, not clipped.
- CMYK is converted.
- Transparency is dropped, not blended, as open_clip's own ``convert("RGB")`` does, so that vectors agree with those
  that open_clip computes from the same file. Where the caller asks for it, the image is laid on white.
- EXIF orientation is applied.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from PIL import Image

from lensmesh_chassis.errors import InvalidInput
from lensmesh_inference.images.content import is_low_content
from lensmesh_inference.images.damage import damaged, undecodable, unsupported
from lensmesh_inference.images.header import open_image, open_without_ancillary
from lensmesh_inference.images.jpeg import JPEG_FORMATS, decode_jpeg
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.local_features import LocalFeatures, features_of, features_of_jpeg
from lensmesh_inference.images.orientation import TURNS, orientation
from lensmesh_inference.images.perceptual import PerceptualHash, hash_jpeg, hash_pixels
from lensmesh_inference.images.png_damage import ends_early
from lensmesh_inference.images.thumbnail import Thumbnail, thumbnail_of
from lensmesh_inference.images.tiff import DeepTiff, check_tiff, rare_coding
from lensmesh_inference.images.tones import SAMPLED, Range, narrowed, to_bytes
from lensmesh_inference.images.transparency import Transparency, alpha_of, is_clear, on_white

# Tells how many bytes libraries have written to standard error.
Heard: TypeAlias = Callable[[], int]
# For models that resize nothing themselves.
_LOOKED_AT_PX: Final = 128
# The part of its height that is looked at first, in the middle.
_FIRST_PART: Final = 8


@dataclass(frozen=True)
class Decoded:
    """An upright RGB image. `fully_transparent`: no pixel of the file can be seen.

    `perceptual_hash`, `local_features` and `thumbnail` are None unless they were asked for.
    """

    image: Image.Image
    fully_transparent: bool = False
    perceptual_hash: PerceptualHash | None = None
    local_features: LocalFeatures | None = None
    thumbnail: Thumbnail | None = None

    def digest(self) -> bytes:
        """Return the SHA-256 of what can be seen: of "WIDTHxHEIGHT:" and the RGB bytes, row by row."""
        size = f"{self.image.width}x{self.image.height}:"
        return hashlib.sha256(size.encode() + self.image.tobytes()).digest()

    def low_content(self) -> bool:
        """Tell whether the image is of one colour, or nearly so."""
        # Nearly every image ends with the first part: where that is not of one colour, neither is the whole.
        return self._is_flat(_LOOKED_AT_PX // _FIRST_PART) and self._is_flat(_LOOKED_AT_PX)

    def _is_flat(self, rows: int) -> bool:
        """Tell whether the middle `rows` of the image are of one colour, at the size at which it is looked at."""
        width, height = self.image.size
        rest = height * (_LOOKED_AT_PX - rows) / _LOOKED_AT_PX / 2
        small = self.image.resize(
            (_LOOKED_AT_PX, rows), Image.Resampling.BOX, box=(0, rest, width, height - rest), reducing_gap=2
        )
        return is_low_content(np.asarray(small).transpose(2, 0, 1), _LOOKED_AT_PX**2)


def nothing() -> int:
    """Return 0 as the number of bytes heard.

    Where several threads decode, nobody knows which image a library's message is of.
    """
    return 0


def decode_image(
    content: bytes, limits: ImageLimits, field: str = "image", *, transparency: Transparency = Transparency.DROP
) -> Image.Image:
    """Decode one image completely. Nothing is left to be read later, in another caller's batch.

    Returns an upright RGB image. Raises ``InvalidInput``, with a separate reason for each defect; `field` is the
    image's dotted path in the request. Width and height are read from the header and checked before a pixel is decoded.
    """
    return decode_opened(open_image(content, limits, field), content, field, transparency).image


def decode_opened(
    pil_image: Image.Image,
    content: bytes,
    field: str,
    transparency: Transparency = Transparency.DROP,
    heard: Heard = nothing,
    *,
    hashed: bool = False,
    featured: bool = False,
    thumbnail_px: int = 0,
) -> Decoded:
    """Decode an image that `open_image` has accepted: the second half of `decode_image`.

    `heard` returns how many bytes libraries have written to standard error. Where that number grows, the image is
    refused as damaged. `hashed` asks for the perceptual hash too, `featured` for local features, and `thumbnail_px` for
    a thumbnail with such a longer side.
    """
    alpha, perceptual, features = None, None, None
    if pil_image.format in JPEG_FORMATS:
        inks = pil_image.mode == "CMYK"
        if hashed:
            perceptual = hash_jpeg(content, pil_image.size, orientation(pil_image), field, inks=inks)
        if featured:
            features = features_of_jpeg(content, pil_image.size, orientation(pil_image), field, inks=inks)
        rgb = Image.fromarray(decode_jpeg(content, pil_image.size, (0, 0), field, inks=inks, scaled=False)[0])
    else:
        try:
            pil_image = _loaded(pil_image, content, field, heard)
            alpha = alpha_of(pil_image, content)
            rgb = _to_rgb(pil_image)
            if alpha is not None and transparency is Transparency.WHITE:
                rgb = on_white(rgb, alpha)
        except InvalidInput:
            raise
        except Exception as error:
            # Pillow's plugins raise whatever their parser stumbles over: OSError, SyntaxError, struct.error,
            # ValueError, EOFError.
            rare = rare_coding(content)
            raise (unsupported(rare, field) if rare else undecodable(content, error, field)) from error
    turn = TURNS.get(orientation(pil_image))
    upright = rgb if turn is None else rgb.transpose(turn)
    if hashed and perceptual is None:
        perceptual = hash_pixels(np.asarray(upright))
    if featured and features is None:
        features = features_of(np.asarray(upright))
    thumbnail = thumbnail_of(upright, thumbnail_px) if thumbnail_px else None
    return Decoded(upright, alpha is not None and is_clear(alpha), perceptual, features, thumbnail)


def _loaded(pil_image: Image.Image, content: bytes, field: str, heard: Heard) -> Image.Image:
    """Load all pixels of the image, without its metadata if there is no other way."""
    is_tiff, before = pil_image.format == "TIFF", heard()
    try:
        if is_tiff and not isinstance(pil_image, DeepTiff):
            check_tiff(content, field)
        pil_image.load()
        if is_tiff and heard() > before:
            raise damaged(field, "its decoder tells of errors")
    except InvalidInput:
        raise
    except Exception as error:
        bare = open_without_ancillary(content)
        if bare is None:
            raise
        try:
            bare.load()
        except Exception:  # noqa: BLE001 - its pixels are damaged too
            raise error from None
        pil_image = bare
    if ends_early(pil_image, content):
        raise damaged(field, "its compressed data ends before its pixels do")
    return pil_image


def _to_rgb(pil_image: Image.Image) -> Image.Image:
    mode = pil_image.mode
    if mode == "RGB":
        # A plugin's own class keeps the file's buffer alive: a plain image does not.
        return pil_image.copy()
    if mode.startswith("I;16"):
        # Of a PNG: those of TIFF files come as bytes.
        levels = np.asarray(pil_image).astype(np.uint16)
        step = max(1, int((levels.size / SAMPLED) ** 0.5))
        return Image.fromarray(to_bytes(levels, narrowed(Range(0, 65535), levels[::step, ::step]))).convert("RGB")
    if mode in {"P", "PA", "La", "RGBa"}:
        # Straight to RGB, Pillow would warn about transparency in bytes; the colours are the same this way.
        return pil_image.convert({"La": "LA"}.get(mode, "RGBA")).convert("RGB")
    return pil_image.convert("RGB")
