"""Decoding, turning and resizing of one image. Imports no torch: the caller passes the function that resizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from lensmesh_inference.images.content import is_low_content
from lensmesh_inference.images.header import check_bytes, check_size, open_image
from lensmesh_inference.images.jpeg import JPEG_FORMATS, decode_jpeg, part_of
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.local_features import LocalFeatures, features_of, features_of_jpeg
from lensmesh_inference.images.local_features import jpeg_part as features_part
from lensmesh_inference.images.orientation import UPRIGHT, is_sideways, orientation, turned
from lensmesh_inference.images.perceptual import PerceptualHash, hash_jpeg, hash_stored
from lensmesh_inference.images.perceptual import jpeg_part as hash_part
from lensmesh_inference.images.pieces import Structure
from lensmesh_inference.images.pillow import Heard, decode_opened, nothing
from lensmesh_inference.images.thumbnail import Thumbnail, thumbnail_of, thumbnail_of_jpeg
from lensmesh_inference.images.thumbnail import jpeg_part as thumbnail_part
from lensmesh_inference.images.transform import Filter, Transform
from lensmesh_inference.images.transparency import Transparency

Pixels: TypeAlias = npt.NDArray[np.uint8]
# Takes an RGB image or pixels of shape (height, width, 3), the height and width that are to fill the target, which may
# be less than all of it, the target's height and width, and how many of its first rows and columns are needed; makes
# pixels of shape (3, rows, columns), of at least these.
Resize: TypeAlias = Callable[
    [Image.Image | Pixels, tuple[float, float], tuple[int, int], tuple[int, int], Filter], Pixels
]
# Room for so many bytes, while something is decoded.
Room: TypeAlias = Callable[[int], AbstractContextManager[None]]

# Besides the image as it is stored: a copy as RGB, for which Pillow takes four bytes a pixel, and one that is turned.
_PILLOW_BYTES: Final = 8
# Pixels as libjpeg-turbo makes them, and the copy that resizing makes.
_JPEG_BYTES: Final = 6
# Four inks, colours in four bytes, and these again in three, and once more for resizing.
_INKS_BYTES: Final = 14
_FILTERS: Final[Mapping[Filter, Image.Resampling]] = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}


@dataclass(frozen=True)
class Made:
    """Contiguous pixels of shape (3, height, width), and what was noticed about the image, as in `Prepared`."""

    pixels: Pixels
    low_content: bool
    fully_transparent: bool
    perceptual_hash: PerceptualHash | None = None
    local_features: LocalFeatures | None = None
    thumbnail: Thumbnail | None = None


def anywhere(_: int) -> AbstractContextManager[None]:
    """Hold no room: memory is not counted here."""
    return nullcontext()


def cost_by_pillow(structure: Structure, pixels: int) -> int:
    """Return the bytes that Pillow needs to decode so many pixels of a file and to convert them."""
    return int(pixels * (structure.bytes_per_pixel + structure.working_bytes_per_pixel + _PILLOW_BYTES))


def cost_of_jpeg(structure: Structure, pixels: int, part: int) -> int:
    """Return the bytes that libjpeg-turbo needs to decode so many pixels at a part of their size, resizing included."""
    each = _INKS_BYTES if structure.channels == 4 else _JPEG_BYTES
    return int(pixels * (structure.working_bytes_per_pixel + each / part**2))


def make(
    content: bytes,
    transform: Transform,
    limits: ImageLimits,
    field: str,
    *,
    structure: Structure,
    resize: Resize,
    room: Room = anywhere,
    scaled: bool = True,
    transparency: Transparency = Transparency.DROP,
    hashed: bool = False,
    featured: bool = False,
    thumbnail_px: int = 0,
    heard: Heard = nothing,
) -> Made:
    """Check, decode, turn upright and resize one image, while `room` holds memory for it.

    `scaled` lets large JPEG images be decoded at a part of their size. `hashed` asks for the perceptual hash too,
    `featured` for local features, and `thumbnail_px` for a thumbnail with such a longer side. `heard` is as for
    `decode_opened`. Raises ``InvalidInput`` for a bad image, naming `field`, and what `room` raises.
    """
    if structure.plain:
        # Opened by nobody: what its header says is known.
        check_bytes(content, limits, field)
        size, inks = (structure.width, structure.height), False
        stored_as: int | None = UPRIGHT
        check_size(size, limits, field)
    else:
        pil_image = open_image(content, limits, field)
        size, inks = pil_image.size, pil_image.mode == "CMYK"
        stored_as = orientation(pil_image) if pil_image.format in JPEG_FORMATS else None
    width, height = size
    if stored_as is not None:
        target = _stored(transform.resized(*_stored((height, width), stored_as)), stored_as)
        part = part_of(height, width, target) if scaled else 1
        hashed_at = hash_part(height, width) if hashed else part
        featured_at = features_part(height, width) if featured else part
        shown_at = thumbnail_part(height, width, thumbnail_px) if thumbnail_px else part
        perceptual, features, thumbnail = None, None, None
        with room(cost_of_jpeg(structure, width * height, min(part, hashed_at, featured_at, shown_at))):
            # A model's size changes neither the hash nor the features.
            if hashed_at != part:
                perceptual = hash_jpeg(content, size, stored_as, field, inks=inks, complete=structure.complete)
            if featured_at != part:
                features = features_of_jpeg(content, size, stored_as, field, inks=inks, complete=structure.complete)
            # A thumbnail may be made from more than it needs.
            if shown_at < part:
                thumbnail = thumbnail_of_jpeg(
                    content, size, stored_as, thumbnail_px, field, inks=inks, complete=structure.complete
                )
            pixels, part = decode_jpeg(
                content, size, target, field, inks=inks, scaled=scaled, complete=structure.complete
            )
            if hashed and perceptual is None:
                perceptual = hash_stored(pixels, stored_as)
            if featured and features is None:
                features = features_of(pixels, stored_as)
            if thumbnail_px and thumbnail is None:
                thumbnail = thumbnail_of(pixels, thumbnail_px, size, stored_as)
            sides = (height / part, width / part)
            if stored_as == UPRIGHT:
                made = _finished(pixels, sides, target, transform, resize)
                return _besides(made, perceptual, features, thumbnail)
            small = resize(pixels, sides, target, target, transform.filter)
            # Turned when it is small: the turning is then almost free.
            upright = turned(small, stored_as)
            fitted = _fit(upright, upright.shape[1:], transform)
            made = Made(fitted, is_low_content(upright), fully_transparent=False)
            return _besides(made, perceptual, features, thumbnail)
    with room(cost_by_pillow(structure, width * height)):
        opened = decode_opened(
            pil_image,
            content,
            field,
            transparency,
            heard,
            hashed=hashed,
            featured=featured,
            thumbnail_px=thumbnail_px,
        )
        width, height = opened.image.size
        target = transform.resized(height, width)
        made = _finished(opened.image, (height, width), target, transform, resize)
        if opened.fully_transparent:
            made = replace(made, fully_transparent=True)
        return _besides(made, opened.perceptual_hash, opened.local_features, opened.thumbnail)


def resize_by_pillow(
    image: Image.Image | Pixels,
    sides: tuple[float, float],
    target: tuple[int, int],
    needed: tuple[int, int],
    kind: Filter,
) -> Pixels:
    """Resize as open_clip's own transform does, in little memory. The whole target is made, whatever is `needed`."""
    pil_image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    small = pil_image.resize((target[1], target[0]), _FILTERS[kind], box=(0, 0, sides[1], sides[0]))
    return np.asarray(small).transpose(2, 0, 1)


def _besides(
    made: Made, perceptual: PerceptualHash | None, features: LocalFeatures | None, thumbnail: Thumbnail | None
) -> Made:
    if perceptual is None and features is None and thumbnail is None:
        return made
    return replace(made, perceptual_hash=perceptual, local_features=features, thumbnail=thumbnail)


def _stored(sides: tuple[int, int], stored_as: int) -> tuple[int, int]:
    """Convert height and width of an upright image to those as it is stored, or the other way round."""
    return (sides[1], sides[0]) if is_sideways(stored_as) else sides


def _finished(
    image: Image.Image | Pixels,
    sides: tuple[float, float],
    target: tuple[int, int],
    transform: Transform,
    resize: Resize,
) -> Made:
    """Resize an upright image and cut out its middle.

    What lies to the right of the middle, or below, is not computed.
    """
    needed = _up_to_middle(target[0], transform.height), _up_to_middle(target[1], transform.width)
    small = resize(image, sides, target, needed, transform.filter)
    flat = is_low_content(small, target[0] * target[1])
    if flat and needed != target:
        flat = is_low_content(resize(image, sides, target, target, transform.filter))
    return Made(_fit(small, target, transform), flat, fully_transparent=False)


def _up_to_middle(side: int, kept: int) -> int:
    return side - max(0, side - kept) // 2


def _fit(pixels: Pixels, sides: tuple[int, ...], transform: Transform) -> Pixels:
    """Cut out the middle of a side that is too large, and pad a side that is too small. numpy does it in one thread.

    `sides` are height and width of the whole image, of which `pixels` may be the first rows and columns.
    """
    height, width = sides
    if height < transform.height or width < transform.width:
        short, narrow = max(0, transform.height - height), max(0, transform.width - width)
        around = ((0, 0), (short // 2, (short + 1) // 2), (narrow // 2, (narrow + 1) // 2))
        pixels = np.pad(pixels, around, constant_values=transform.fill)
        height, width = height + short, width + narrow
    top, left = round((height - transform.height) / 2), round((width - transform.width) / 2)
    return np.ascontiguousarray(pixels[:, top : top + transform.height, left : left + transform.width])
