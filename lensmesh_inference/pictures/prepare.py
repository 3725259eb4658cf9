"""One encoded picture as the bytes that a model takes. Imports torch, for its resizing.

torch resizes bytes with Pillow's own filters and fixed-point numbers, several times faster: single bytes differ by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from lensmesh_inference.pictures.content import is_low_content
from lensmesh_inference.pictures.header import open_picture
from lensmesh_inference.pictures.jpeg import decode_jpeg
from lensmesh_inference.pictures.limits import ImageLimits
from lensmesh_inference.pictures.orientation import UPRIGHT, is_sideways, orientation, turned
from lensmesh_inference.pictures.pillow import decode_opened
from lensmesh_inference.pictures.transform import Filter, Transform
from lensmesh_inference.pictures.transparency import Transparency

Pixels: TypeAlias = npt.NDArray[np.uint8]
_RESAMPLE: Final[Mapping[Filter, Callable[..., torch.Tensor]]] = {
    "bicubic": torch.ops.aten._upsample_bicubic2d_aa.default,
    "bilinear": torch.ops.aten._upsample_bilinear2d_aa.default,
}


@dataclass(frozen=True)
class Prepared:
    """One image as a model takes it, and what was seen of it on the way.

    `pixels` are uint8 of shape (3, height, width), contiguous. `low_content`: the image is of one colour, or nearly so.
    `fully_transparent`: no pixel of the file can be seen.
    """

    pixels: torch.Tensor
    low_content: bool = False
    fully_transparent: bool = False


def prepare(
    content: bytes,
    transform: Transform,
    limits: ImageLimits,
    field: str = "image",
    *,
    scaled: bool = True,
    transparency: Transparency = Transparency.DROP,
) -> Prepared:
    """Check, decode, turn upright and resize one picture.

    `scaled` lets large JPEG pictures be decoded at a part of their size. Raises ``InvalidInput`` for a bad picture,
    naming `field`. Blocks, for milliseconds, in one thread and mostly without Python's lock.
    """
    picture = open_picture(content, limits, field)
    stored_as = orientation(picture) if picture.format in ("JPEG", "MPO") else UPRIGHT
    width, height = picture.size
    target = _stored(transform.resized(*_stored((height, width), stored_as)), stored_as)
    decoded = decode_jpeg(content, picture, target, field, scaled=scaled)
    fully_transparent = False
    if decoded is not None:
        pixels, part = decoded
    else:
        opened = decode_opened(picture, content, field, transparency)
        pixels, part, fully_transparent = np.array(opened.image), 1, opened.fully_transparent
        (height, width), stored_as = pixels.shape[:2], UPRIGHT
        target = transform.resized(height, width)
    small = _resize(pixels, (height / part, width / part), target, transform)
    # Turned when it is small: the turning is then almost free.
    upright = turned(small, stored_as)
    return Prepared(torch.from_numpy(_fit(upright, transform)), is_low_content(upright), fully_transparent)


def _stored(sides: tuple[int, int], stored_as: int) -> tuple[int, int]:
    """Height and width of an upright picture as it is stored, and the other way about."""
    return (sides[1], sides[0]) if is_sideways(stored_as) else sides


def _resize(pixels: Pixels, sides: tuple[float, float], target: tuple[int, int], transform: Transform) -> Pixels:
    """Pixels of shape (height, width, 3) scaled to `target`, of shape (3, height, width).

    `sides` are the height and width that are to fill the target: of a picture decoded at a part of its size, the last
    row and column may stand for less than the others, and scaling them as if they were whole would shift the picture.
    """
    planes = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)
    # What torch.nn.functional.interpolate calls with antialias=True; it can be told sizes or scales, but not both.
    resample = _RESAMPLE[transform.filter]
    small: Pixels = resample(planes, target, False, target[0] / sides[0], target[1] / sides[1])[0].numpy()
    return small


def _fit(pixels: Pixels, transform: Transform) -> Pixels:
    """The middle of what is too large, padding around what is too small; by numpy, which uses one thread."""
    _, height, width = pixels.shape
    if height < transform.height or width < transform.width:
        short, narrow = max(0, transform.height - height), max(0, transform.width - width)
        around = ((0, 0), (short // 2, (short + 1) // 2), (narrow // 2, (narrow + 1) // 2))
        pixels = np.pad(pixels, around, constant_values=transform.fill)
        _, height, width = pixels.shape
    top, left = round((height - transform.height) / 2), round((width - transform.width) / 2)
    return np.ascontiguousarray(pixels[:, top : top + transform.height, left : left + transform.width])
