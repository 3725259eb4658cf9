"""A TIFF of which a strip or tile is cut, overwritten or elsewhere is refused, never filled up with grey or black."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import tifffile
from PIL import Image, TiffImagePlugin

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images import tiff_pages as tags
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.pillow import decode_image
from lensmesh_inference.images.tiff_pages import Tag, TiffPage, choose_page, finish, single_page
from tests.inference.images.encoded import encoded, photograph

SIZE = (160, 96)
IMAGE = photograph(2, SIZE)
BAD = (Reason.IMAGE_TRUNCATED, Reason.IMAGE_UNDECODABLE)


@pytest.fixture(autouse=True)
def many_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TiffImagePlugin, "STRIP_SIZE", 4096)


def tiles(coding: str | None, dtype: str) -> bytes:
    file = io.BytesIO()
    pixels = np.asarray(IMAGE).astype(dtype) * (257 if dtype == "u2" else 1)
    tifffile.imwrite(file, pixels, compression=coding, tile=(32, 32), photometric="rgb", metadata=None)
    return file.getvalue()


def jpeg_tiles() -> bytes:
    """Each of them with tables of its own."""
    out, places, lengths = bytearray(8), [], []
    for top in range(0, SIZE[1], 32):
        for left in range(0, SIZE[0], 32):
            data = encoded(IMAGE.crop((left, top, left + 32, top + 32)), "JPEG")
            places.append(len(out))
            lengths.append(len(data))
            out += data + bytes(len(data) & 1)
    values = {
        256: SIZE[:1],
        257: SIZE[1:],
        258: (8, 8, 8),
        259: (7,),
        262: (6,),
        277: (3,),
        322: (32,),
        323: (32,),
        324: places,
        325: lengths,
        530: (2, 2),
    }
    return finish(out, {number: Tag(4 if number > 321 else 3, tuple(one)) for number, one in values.items()})


MADE: dict[str, Callable[[], bytes]] = {
    "uncoded tiles": lambda: tiles(None, "u1"),
    "deflated tiles": lambda: tiles("zlib", "u1"),
    "deflated tiles of 16 bits": lambda: tiles("zlib", "u2"),
    "JPEG tiles": jpeg_tiles,
    **{
        coding: lambda coding=coding: encoded(IMAGE, "TIFF", compression=coding)  # type: ignore[misc]  # bound now
        for coding in ("raw", "tiff_adobe_deflate", "tiff_lzw", "jpeg", "packbits", "zstd", "lzma")
    },
    **{
        coding: lambda coding=coding: encoded(IMAGE.convert("1"), "TIFF", compression=coding)  # type: ignore[misc]  # bound now
        for coding in ("group4", "group3", "tiff_ccitt")
    },
}


def damages(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The middle strip or tile, cut, overwritten or elsewhere."""
    page = choose_page(content)
    assert page is not None
    where, size = (
        (tags.TILE_OFFSETS, tags.TILE_BYTES) if tags.TILE_OFFSETS in page else (tags.STRIP_OFFSETS, tags.STRIP_BYTES)
    )
    places, lengths = page.numbers(where), page.numbers(size)
    middle = len(places) // 2
    at, length = places[middle], lengths[middle]
    half = length // 2

    def told(tag: int, value: int) -> bytes:
        values = list(page.numbers(tag))
        values[middle] = value
        return single_page(content, TiffPage(page | {tag: Tag(4, tuple(values))}))

    coding = page.first(tags.COMPRESSION, 1)
    if len(places) > 1 or coding != 1:
        # A single strip without coding is as long as its rows.
        yield "shorter", told(size, half)
        yield "three bytes", told(size, 3)
        yield "no bytes", told(size, 0)
    yield "behind the end", told(where, len(content) + 9000)
    yield "in the header", told(where, 0)
    # What is not coded may hold anything.
    if coding != 1:
        yield "zeros from the middle on", content[: at + half] + bytes(length - half) + content[at + length :]
        yield "all zeros", content[:at] + bytes(length) + content[at + length :]
    if coding not in (1, 2, 3, 4):
        chance = np.random.default_rng(3).bytes(length)
        yield "noise from the middle on", content[: at + half] + chance[half:] + content[at + length :]
        yield "ones from the middle on", content[: at + half] + b"\xff" * (length - half) + content[at + length :]


@pytest.mark.parametrize("name", MADE)
def test_a_strip_or_tile_that_is_not_all_there(name: str) -> None:
    content = MADE[name]()
    assert decode_image(content, ImageLimits()).size == SIZE
    for damage, damaged in damages(content):
        with pytest.raises(InvalidInput) as caught:
            pytest.fail(f"{damage}: {decode_image(damaged, ImageLimits())}")
        assert caught.value.reason in BAD, damage


def test_what_libtiff_writes_to_standard_error_is_an_error_of_the_image() -> None:
    """Of a wrong code in fax data it says a word, and goes on with white."""
    content = encoded(IMAGE.convert("1"), "TIFF", compression="group4")
    page = choose_page(content)
    assert page is not None
    at = page.first(tags.STRIP_OFFSETS, 0) + page.first(tags.STRIP_BYTES, 0) // 2
    decoder = ImageDecoder(ImageLimits())
    try:
        assert decoder.check(content).image.size == SIZE
        with pytest.raises(InvalidInput) as caught:
            decoder.check(content[:at] + np.random.default_rng(3).bytes(16) + content[at + 16 :])
        assert caught.value.reason is Reason.IMAGE_UNDECODABLE
        assert decoder.check(content).image.size == SIZE
    finally:
        decoder.close()


def test_sizes_that_writers_get_wrong() -> None:
    """A single strip that says nothing of its length, a last strip as long as the others, a stream without its end."""
    bare = encoded(Image.new("L", SIZE, 90), "TIFF", compression="raw")
    page = choose_page(bare)
    assert page is not None
    content = single_page(bare, TiffPage(page | {tags.STRIP_BYTES: Tag(4, (0,))}))
    assert decode_image(content, ImageLimits()).size == SIZE
    assert decode_image(_deflated(rows=41, end=True), ImageLimits()).size == SIZE
    assert decode_image(_deflated(rows=SIZE[1], end=False), ImageLimits()).size == SIZE


def _deflated(*, rows: int, end: bool) -> bytes:
    strips = -(-SIZE[1] // rows)
    coder = zlib.compressobj()
    data = coder.compress(bytes(range(SIZE[0])) * rows) + coder.flush(zlib.Z_FINISH if end else zlib.Z_SYNC_FLUSH)
    numbers: dict[int, tuple[int, ...]] = {
        256: (SIZE[0],),
        257: (SIZE[1],),
        258: (8,),
        259: (8,),
        262: (1,),
        277: (1,),
        278: (rows,),
    }
    numbers |= {273: (8,) * strips, 279: (len(data),) * strips}
    return finish(bytearray(8) + data, {number: Tag(4, values) for number, values in numbers.items()})
