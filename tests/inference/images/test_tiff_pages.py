"""Which page of a TIFF is the image, and that camera raw files, which are built as TIFF files, are refused by name."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.pillow import decode_image
from lensmesh_inference.images.tiff_pages import Tag, TiffPage, finish
from tests.inference.images.encoded import encoded, photograph
from tests.inference.images.tiffs import GREY, LIMITS, RGB, SIZE, Levels, assert_grey, decoded, page, refused


def several(*pages: tuple[Levels, int]) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for pixels, _ in pages:
            writer.write(pixels, subfiletype=2, metadata=None, photometric="minisblack")
    content, at = bytearray(file.getvalue()), 0
    for _, subfile in pages:
        # The writer knows better what a mask is.
        at = content.index(struct.pack("<HHI", 254, 4, 1), at) + 8
        struct.pack_into("<I", content, at, subfile)
    return bytes(content)


def test_the_first_page_that_is_neither_reduced_nor_a_mask() -> None:
    label, mask = np.full((20, 20), 255, "u1"), np.full_like(GREY, 255)
    assert_grey(several((label, 1), (GREY, 0)), within=0)
    assert_grey(several((mask, 4), (label, 1), (GREY, 0), (label, 0)), within=0)
    assert_grey(several((GREY, 0), (label, 0)), within=0)
    assert_grey(several((GREY, 2), (label, 2)), within=0)
    # Nothing else is there: better than none.
    assert_grey(several((GREY, 1)), within=0)
    assert_grey(several((mask, 4), (GREY, 1), (label, 1)), within=0)
    with pytest.raises(InvalidInput):
        decode_image(several((mask, 4)), LIMITS)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_a_thumbnail_stands_for_the_page_below_it(dtype: str) -> None:
    """As scanners write it."""
    for main, below in ((1, 0), (0, 1)):
        file = io.BytesIO()
        pages = [np.zeros((20, 30, 3), "u1"), RGB.astype(dtype) * (257 if dtype == "u2" else 1)]
        with tifffile.TiffWriter(file) as writer:
            for pixels, subfile in zip(pages if main else pages[::-1], (main, below), strict=True):
                writer.write(pixels, photometric="rgb", subfiletype=subfile, subifds=subfile == main, metadata=None)
        assert np.array_equal(decoded(file.getvalue()), RGB)


def test_size_and_limits_are_those_of_the_page_that_is_chosen() -> None:
    content = several((np.zeros((20, 20), "u1"), 1), (GREY, 0))
    with pytest.raises(InvalidInput, match="90 x 61") as caught:
        decode_image(content, ImageLimits(max_pixels=1000))
    assert caught.value.reason is Reason.IMAGE_TOO_MANY_PIXELS


def test_pages_that_go_in_circles_end() -> None:
    content = bytearray(several((GREY, 1)))
    first = struct.unpack_from("<I", content, 4)[0]
    count = struct.unpack_from("<H", content, first)[0]
    struct.pack_into("<I", content, first + 2 + 12 * count, first)
    assert_grey(bytes(content), within=0)


def raw(make: str, *, subfile: int = 1, colours: int = 32803, dng: bool = False, compression: int = 1) -> bytes:
    """A thumbnail, and the sensor's numbers below it."""
    extra: list[tuple[int, int, int, Any, bool]] = [(271, 2, 0, make, True)]
    if dng:
        extra.append((50706, 1, 4, b"\1\4\0\0", True))
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(RGB[::3, ::3], photometric="rgb", subfiletype=subfile, subifds=1, extratags=extra, metadata=None)
        sensor = RGB if colours == 34892 else GREY
        writer.write(sensor.astype("u2") * 16, photometric=colours, metadata=None)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (raw("Acme", dng=True, colours=34892), "DNG"),
        (raw("NIKON CORPORATION"), "NEF"),
        (raw("SONY"), "ARW"),
        (raw("PENTAX"), "PEF"),
        (raw("Unheard of"), "a camera raw file"),
    ],
)
def test_camera_raw_is_refused_by_name(content: bytes, name: str) -> None:
    refused(content, f"{name}.*convert it")


def test_raw_files_of_canon_and_phase_one_begin_with_a_preview() -> None:
    jpeg = photograph(1, SIZE)
    data = encoded(jpeg, "JPEG")
    tags: dict[str, tuple[int, tuple[Any, ...]]] = {"t258": (3, (8, 8, 8)), "t277": (3, (3,)), "t259": (3, (6,))}
    canon = Tag(2, tuple(bytes([value]) for value in b"Canon\0"))
    refused(page(data, **tags, t271=(canon.kind, canon.values)), "CR2")
    for mark in (b"IIII\1waR", b"MMMMRawT"):
        begun = bytearray(bytes(8) + mark + data)
        refused(
            finish(begun, TiffPage({256: Tag(4, (9,)), 257: Tag(4, (9,)), 273: Tag(4, (16,)), 279: Tag(4, (9,))})),
            "IIQ",
        )
    marked = bytearray(bytes(8) + b"CR\2\0\0\0\0\0" + data)
    refused(
        finish(marked, TiffPage({256: Tag(4, (9,)), 257: Tag(4, (9,)), 273: Tag(4, (16,)), 279: Tag(4, (9,))})), "CR2"
    )
