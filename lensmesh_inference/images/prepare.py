"""Preparation of one encoded image: the bytes that a model takes. Imports torch, for its resizing.

torch resizes bytes with Pillow's own filters and fixed-point numbers, several times faster: single bytes differ by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from PIL import Image

from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.local_features import LocalFeatures
from lensmesh_inference.images.messages import DecodeAnswer
from lensmesh_inference.images.perceptual import PerceptualHash
from lensmesh_inference.images.pieces import Structure
from lensmesh_inference.images.raster import Made, Pixels, Room, anywhere, make
from lensmesh_inference.images.structure import look
from lensmesh_inference.images.thumbnail import Thumbnail
from lensmesh_inference.images.transform import Filter, Transform
from lensmesh_inference.images.transparency import Transparency

_RESAMPLE: Final[Mapping[Filter, Callable[..., torch.Tensor]]] = {
    "bicubic": torch.ops.aten._upsample_bicubic2d_aa.default,
    "bilinear": torch.ops.aten._upsample_bilinear2d_aa.default,
}


@dataclass(frozen=True)
class Prepared:
    """An image as a model takes it, and what was noticed about it on the way.

    `pixels` are uint8 of shape (3, height, width), contiguous. `low_content`: the image is of one colour, or nearly so.
    `fully_transparent`: no pixel of the file can be seen. `perceptual_hash`, `local_features` and `thumbnail` are
    None unless they were asked for.
    """

    pixels: torch.Tensor
    low_content: bool = False
    fully_transparent: bool = False
    perceptual_hash: PerceptualHash | None = None
    local_features: LocalFeatures | None = None
    thumbnail: Thumbnail | None = None


def prepare(
    content: bytes,
    transform: Transform,
    limits: ImageLimits,
    field: str = "image",
    *,
    structure: Structure | None = None,
    room: Room = anywhere,
    scaled: bool = True,
    transparency: Transparency = Transparency.DROP,
    hashed: bool = False,
    featured: bool = False,
    thumbnail_px: int = 0,
) -> Prepared:
    """Check, decode, turn upright and resize one image, while `room` holds memory for it.

    `scaled` lets large JPEG images be decoded at a part of their size. `structure` is what a look at the content found.
    `hashed` asks for the perceptual hash too, `featured` for local features, and `thumbnail_px` for a thumbnail with
    such a longer side. Raises ``InvalidInput`` for a bad image, naming `field`, and what `room` raises. Blocks for
    milliseconds, in one thread and mostly without Python's lock.
    """
    made = make(
        content,
        transform,
        limits,
        field,
        structure=structure or look(content, field),
        resize=resize_by_torch,
        room=room,
        scaled=scaled,
        transparency=transparency,
        hashed=hashed,
        featured=featured,
        thumbnail_px=thumbnail_px,
    )
    return _prepared(made.pixels, made)


def as_prepared(answer: DecodeAnswer, pixels: Pixels) -> Prepared:
    """Wrap what a decoding process made of an image."""
    return _prepared(pixels, answer)


def _prepared(pixels: Pixels, made: Made | DecodeAnswer) -> Prepared:
    return Prepared(
        torch.from_numpy(pixels),
        made.low_content,
        made.fully_transparent,
        made.perceptual_hash,
        made.local_features,
        made.thumbnail,
    )


def resize_by_torch(
    image: Image.Image | Pixels,
    sides: tuple[float, float],
    target: tuple[int, int],
    needed: tuple[int, int],
    kind: Filter,
) -> Pixels:
    """Scale pixels to `target`, and make only the first rows and columns of it that are `needed`.

    `sides` are the height and width that shall fill the target. In an image decoded at a part of its size, the last row
    and column may stand for less than the others; scaling them as if they were whole would shift the image.
    """
    pixels = np.array(image) if isinstance(image, Image.Image) else image
    planes = torch.from_numpy(pixels.transpose(2, 0, 1)[None])
    # What torch.nn.functional.interpolate calls with antialias=True; it can be told sizes or scales, but not both.
    resample = _RESAMPLE[kind]
    # A side that stays as long as it is would not be scaled at all.
    needed = (
        target[0] if needed[0] == pixels.shape[0] else needed[0],
        target[1] if needed[1] == pixels.shape[1] else needed[1],
    )
    small: Pixels = resample(planes, needed, False, target[0] / sides[0], target[1] / sides[1]).numpy()[0]
    return small
