"""A TIFF is decoded as what it declares: its layout, its range of tones, its page; or it is refused by name."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images.pillow import decode_image
from lensmesh_inference.images.tiff_pages import Tag
from tests.inference.images.encoded import encoded, oriented, photograph
from tests.inference.images.tiffs import GREY, LIMITS, RGB, SIZE, Levels, assert_grey, decoded, page, refused, written

LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 7},
    "one strip": {},
    "tiles": {"tile": (32, 16)},
    "deflate": {"compression": "zlib"},
    "deflate, tiles": {"compression": "zlib", "tile": (16, 32)},
    "differences": {"compression": "zlib", "predictor": 2, "rowsperstrip": 16},
    "differences, tiles": {"compression": "zlib", "predictor": 2, "tile": (16, 32)},
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4"])
def test_layouts(layout: str, dtype: str, order: str) -> None:
    """Grey, colours side by side and colours in planes, each of every depth."""
    top = np.iinfo(dtype).max
    for planes in (False, True):
        wide = (RGB.astype("u8") * top // 255).astype(dtype)
        pixels = np.moveaxis(wide, -1, 0) if planes else wide
        options = LAYOUTS[layout] | {"planarconfig": "separate" if planes else "contig"}
        content = written(pixels, photometric="rgb", byteorder=order, **options)
        assert np.abs(decoded(content) - RGB).max() <= 1
    grey = (GREY.astype("u8") * top // 255).astype(dtype)
    assert_grey(written(grey, photometric="minisblack", byteorder=order, **LAYOUTS[layout]))
    assert_grey(written(top - grey, photometric="miniswhite", byteorder=order, **LAYOUTS[layout]))


def test_big_tiff_and_both_orders_of_packed_bits() -> None:
    assert_grey(written(GREY.astype("u2") * 257, bigtiff=True))
    assert np.abs(decoded(written(RGB, bigtiff=True, photometric="rgb")) - RGB).max() == 0


FLOATS = {
    "0 to 1": (GREY / 255, None),
    "0 to 1 with one pixel above": (GREY / 255, 1.02),
    "0 to 1 with one pixel far above": (GREY / 255, 1e9),
    "0 to 1 with one that is no number": (GREY / 255, np.nan),
    "0 to 1 with one infinity": (GREY / 255, -np.inf),
    "-1 to 1": (GREY / 127.5 - 1, None),
    "0 to 255": (GREY * 1.0, None),
    "0 to 65535": (GREY * 257.0, None),
}


# 16 bits hold no number above 65,504.
FITTING = [(name, dtype) for name in FLOATS for dtype in ("f2", "f4", "f8") if (name, dtype) != ("0 to 65535", "f2")]


@pytest.mark.parametrize(("name", "dtype"), FITTING)
def test_real_numbers_of_customary_ranges(name: str, dtype: str) -> None:
    levels, odd = FLOATS[name]
    levels = levels.astype("f8").copy()
    if odd is not None:
        levels[0, 0] = min(odd, 60_000) if np.isfinite(odd) else odd
    expected = GREY.copy()
    expected[0, 0] = decoded(written(levels.astype(dtype)))[0, 0, 0]
    assert_grey(written(levels.astype(dtype)), expected)


@pytest.mark.parametrize(("levels", "dtype"), [(GREY * 0.0005, "f4"), (GREY * 40.0 - 3000, "f4"), (GREY - 900.0, "i2")])
def test_numbers_of_no_customary_range_reach_from_black_to_white(levels: Levels, dtype: str) -> None:
    result = decoded(written(levels.astype(dtype)))[..., 0]
    assert (result.min(), result.max()) == (0, 255)
    assert np.corrcoef(result.ravel(), GREY.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("dtype", ["i4", "u4", "i8", "i2"])
@pytest.mark.parametrize("factor", [1, 16, 64])
def test_integers_of_customary_ranges(dtype: str, factor: int) -> None:
    """As many as 8, 12 and 14 bits hold, and one pixel that is more."""
    levels = GREY.astype("i8") * factor
    assert_grey(written(levels.astype(dtype)))
    levels[0, 0] = 30_000
    expected = GREY.copy()
    expected[0, 0] = 255
    assert_grey(written(levels.astype(dtype)), expected)


def test_one_pixel_never_decides() -> None:
    """Whatever its value, all others stay as they are."""
    for dtype, values in (
        ("f4", (0.99, 1.0, 1.001, 1.1, 300, 1e30)),
        ("i4", (255, 256, 65_535, 65_536, 2**31 - 1, -1)),
    ):
        before = None
        for value in values:
            levels = (GREY / 255 if dtype == "f4" else GREY.astype("i8")).astype(dtype)
            levels[0, 0] = value
            after = decoded(written(levels))[1:]
            assert before is None or np.array_equal(before, after), value
            before = after


def test_declared_ranges() -> None:
    reals = (GREY / 255 * 7 + 3).astype("<f4").tobytes()
    assert_grey(page(reals, t258=(3, (32,)), t339=(3, (3,)), t340=(11, (3.0,)), t341=(11, (10.0,))))
    deep = (GREY.astype("<u2") * 16).tobytes()
    for tag in ("t281", "t341"):
        assert_grey(page(deep, t258=(3, (16,)), **{tag: (3, (4095,))}))
    assert_grey(page((GREY.astype("<u2") * 64).tobytes(), t258=(3, (16,))), GREY // 4)
    holes = (GREY / 255).astype("<f4")
    holes[:20] = -9999
    text = Tag(2, tuple(bytes([value]) for value in b"-9999\0"))
    bare = page(holes.tobytes(), t258=(3, (32,)), t339=(3, (3,)), t42113=(text.kind, text.values))
    assert np.abs(decoded(bare)[20:, :, 0] - GREY[20:].astype(int)).max() <= 1


@pytest.mark.parametrize("odd", [None, 65_535])
def test_twelve_bits_in_sixteen_that_nobody_declares(odd: int | None) -> None:
    """A sixteenth of the light would be black to every model; a single bright pixel changes nothing."""
    levels = GREY.astype("u2") * 16
    expected = GREY.copy()
    if odd is not None:
        levels[0, 0], expected[0, 0] = odd, 255
    assert_grey(written(levels), expected)
    assert_grey(encoded(Image.fromarray(levels)), expected)
    # A dark image stays dark, and a bright one bright.
    assert_grey(written(GREY.astype("u2") * 40), GREY.astype(int) * 40 // 257)
    assert_grey(written(GREY.astype("u2"), photometric="miniswhite"), 255 - GREY.astype(int) // 257)


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 20, 24])
def test_bits_that_fill_no_bytes(bits: int) -> None:
    levels = GREY.astype("u4") * (2**bits - 1) // 255
    rows = [np.unpackbits(line.astype(">u4").view("u1").reshape(-1, 4), axis=1)[:, 32 - bits :] for line in levels]
    packed = b"".join(np.packbits(row.ravel()).tobytes() for row in rows)
    assert_grey(page(packed, t258=(3, (bits,))))
    assert_grey(page(packed, t258=(3, (bits,)), t262=(3, (0,))), 255 - GREY)


def test_24_bits_reach_to_all_bits_set() -> None:
    """However bright the brightest pixel is, unless the file says otherwise."""
    three = np.repeat(GREY[..., None] // 2, 3, axis=2).tobytes()
    assert_grey(page(three, t258=(3, (24,))), GREY // 2)
    assert_grey(page(three, t258=(3, (24,)), t341=(4, (0x7F7F7F,))), GREY // 2 * 2)


def test_differences_of_real_numbers() -> None:
    reals = (GREY / 255).astype(">f4")
    planes = reals.view("u1").reshape(len(GREY), -1, 4).swapaxes(1, 2).reshape(len(GREY), -1)
    differences = np.diff(planes, axis=1, prepend=np.zeros((len(GREY), 1), "u1")).astype("u1")
    content = page(
        zlib.compress(differences.tobytes()), t258=(3, (32,)), t339=(3, (3,)), t317=(3, (3,)), t259=(3, (8,))
    )
    assert_grey(content)


def test_extra_samples() -> None:
    alpha = np.full((*GREY.shape, 1), 65535, "u2")
    for kind in ("unspecified", "unassalpha", "assocalpha"):
        deep = np.concatenate([RGB.astype("u2") * 257, alpha], axis=2)
        assert np.abs(decoded(written(deep, photometric="rgb", extrasamples=[kind])) - RGB).max() <= 1
        flat = np.concatenate([GREY[..., None].astype("u2") * 257, alpha], axis=2)
        assert_grey(written(flat, photometric="minisblack", extrasamples=[kind], planarconfig="contig"))
    half = np.concatenate([RGB.astype("u2") * 257 // 2, alpha // 2], axis=2)
    assert np.abs(decoded(written(half, photometric="rgb", extrasamples=["assocalpha"])) - RGB).max() <= 3


def test_a_plane_that_is_not_needed_may_be_missing() -> None:
    data = GREY.tobytes()
    content = page(
        data,
        t258=(3, (8, 8)),
        t277=(3, (2,)),
        t284=(3, (2,)),
        t338=(3, (0,)),
        t339=(3, (2, 2)),
        t273=(4, (8, 0)),
        t279=(4, (len(data), 0)),
    )
    assert decode_image(content, LIMITS).size == SIZE


def test_inks_of_16_bits() -> None:
    inks = np.concatenate([255 - RGB, np.zeros((*GREY.shape, 1), "u1")], axis=2)
    shallow = decoded(written(inks, photometric="separated"))
    assert np.abs(decoded(written(inks.astype("u2") * 257, photometric="separated")) - shallow).max() <= 1


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK", "YCbCr", "LAB"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_what_pillow_reads_stays_as_it_was(mode: str, compression: str | None) -> None:
    image = photograph(2, SIZE)
    image = (
        image
        if mode == "RGB"
        else Image.frombytes("LAB", SIZE, image.tobytes())
        if mode == "LAB"
        else image.convert(mode)
    )
    content = encoded(image, "TIFF", compression=compression, exif=oriented(1))
    expected = Image.open(io.BytesIO(content))
    rgb = expected.convert("RGBA").convert("RGB") if mode == "P" else expected.convert("RGB")
    assert decode_image(content, LIMITS).tobytes() == rgb.tobytes()


def test_colours_of_a_palette_in_8_bits() -> None:
    """Some writers put them where 16 belong."""
    palette = tuple(value for _ in range(3) for value in range(256))
    for factor in (1, 257):
        assert_grey(
            page(
                GREY.tobytes(),
                t258=(3, (8,)),
                t262=(3, (3,)),
                t320=(3, tuple(factor * value for value in palette)),
            ),
            within=0,
        )


def test_ycbcr_that_is_not_coded() -> None:
    image = photograph(2, SIZE).convert("YCbCr")
    all_tags: dict[str, tuple[int, tuple[Any, ...]]] = {"t258": (3, (8, 8, 8)), "t277": (3, (3,)), "t262": (3, (6,))}
    for more in ({}, {"t530": (3, (1, 1))}):
        assert np.abs(decoded(page(image.tobytes(), **all_tags, **more)) - RGB).max() <= 3
    shared = bytes(6 * 45 * 31)
    for more in ({}, {"t530": (3, (2, 2))}):
        refused(page(shared, **all_tags, **more), "3 samples of 8 bits .YCbCr")
    planes = {"t284": (3, (2,)), "t273": (4, (8, 8, 8)), "t279": (4, (SIZE[0] * SIZE[1],) * 3)}
    refused(page(image.tobytes(), **all_tags, **planes, t530=(3, (1, 1))), "3 samples of 8 bits .YCbCr")


@pytest.mark.parametrize("number", range(1, 9))
def test_orientation_of_deep_samples(number: int) -> None:
    shallow = written(RGB, photometric="rgb", extratags=[(274, 3, 1, number, True)])
    deep = written(RGB.astype("u2") * 257, photometric="rgb", extratags=[(274, 3, 1, number, True)])
    assert np.array_equal(decoded(shallow), decoded(deep))


def test_layouts_that_are_not_read_are_named() -> None:
    refused(written(GREY + 1j), "complex")
    refused(page(GREY.tobytes(), t258=(3, (8,)), t259=(3, (34712,))), "compression 34712")
    refused(page(GREY.tobytes() * 2, t258=(3, (16,)), t259=(3, (7,))), "16 bits.*compression 7")
    refused(page(GREY.tobytes() * 2, t258=(3, (16,)), t262=(3, (3,))), "16 bits.*palette")
    refused(page(RGB.tobytes(), t258=(3, (5, 6, 5)), t277=(3, (3,)), t262=(3, (2,))), "5 and 6 bits")


def test_odd_metadata_decides_nothing() -> None:
    """A description that lies behind the end of the file, values of unknown kinds."""
    content = bytearray(written(GREY, extratags=[(270, 2, 0, "a description", True), (34675, 7, 4, b"1234", True)]))
    place = content.index(struct.pack("<HH", 270, 2))
    struct.pack_into("<II", content, place + 4, 1 << 30, len(content) + 99)
    assert_grey(bytes(content), within=0)
    struct.pack_into("<H", content, content.index(struct.pack("<HH", 34675, 7)) + 2, 99)
    assert_grey(bytes(content), within=0)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_a_cut_file_is_cut(share: float, dtype: str) -> None:
    for content in (written(GREY.astype(dtype)), encoded(Image.fromarray(GREY.astype(dtype)), "TIFF")):
        with pytest.raises(InvalidInput) as caught:
            decode_image(content[: int(len(content) * share)], LIMITS)
        assert caught.value.reason is Reason.IMAGE_TRUNCATED


def test_missing_strips_are_not_black() -> None:
    content = page(GREY.tobytes(), t258=(3, (8,)), t278=(4, (20,)), t273=(4, (8,)), t279=(4, (1800,)))
    with pytest.raises(InvalidInput) as caught:
        decode_image(content, LIMITS)
    assert caught.value.reason in (Reason.IMAGE_TRUNCATED, Reason.IMAGE_UNDECODABLE)
