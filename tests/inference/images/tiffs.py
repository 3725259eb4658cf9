"""TIFF files for tests, and what they are to become."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.pillow import decode_image
from lensmesh_inference.images.tiff_pages import Tag, TiffPage, finish
from tests.inference.images.encoded import photograph

Levels = npt.NDArray[Any]
SIZE = (90, 61)
RGB: Levels = np.asarray(photograph(2, SIZE))
GREY: Levels = np.asarray(photograph(2, SIZE).convert("L"))
LIMITS = ImageLimits()


def written(pixels: Levels, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, metadata=None, **options)
    return file.getvalue()


def page(data: bytes, **tags: tuple[int, tuple[Any, ...]]) -> bytes:
    """A TIFF of one strip; tags are named "t258"."""
    out = bytearray(8) + data
    all_tags: dict[int, tuple[int, tuple[Any, ...]]] = {
        256: (4, SIZE[:1]),
        257: (4, SIZE[1:]),
        259: (3, (1,)),
        262: (3, (1,)),
        277: (3, (1,)),
    }
    all_tags |= {273: (4, (8,)), 278: (4, SIZE[1:]), 279: (4, (len(data),))}
    all_tags |= {int(name[1:]): value for name, value in tags.items()}
    return finish(out, TiffPage({number: Tag(*value) for number, value in all_tags.items()}))


def decoded(content: bytes) -> Levels:
    return np.asarray(decode_image(content, LIMITS)).astype(int)


def assert_grey(content: bytes, expected: Levels = GREY, within: int = 1) -> None:
    levels = decoded(content)
    assert (levels == levels[..., :1]).all()
    assert np.abs(levels[..., 0] - expected.astype(int)).max() <= within


def refused(content: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        decode_image(content, LIMITS)
    assert caught.value.reason is Reason.IMAGE_FORMAT_UNSUPPORTED
