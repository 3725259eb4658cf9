"""Perceptual hashes: those of the published code, whatever way an image goes, and near for copies of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from bench.files import load_photographs
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.perceptual import PerceptualHash, hash_pixels, jpeg_part
from lensmesh_inference.images.transform import Transform
from lensmesh_inference.images.transparency import Transparency
from tests.inference.images.encoded import STORED, encoded, oriented, photograph

# Made by pdqhash 0.2.8, which is the published C++: of photographs, and of noise with odd sides.
PUBLISHED = {
    0: "bf18cef3407e8678e6833b1937d14066988e5cd2046eac5f783103f157abf50e",
    2: "2d6b1af3a956c529e79ca3d2526fa834d4196c81cedd04de0a26b855fc99b724",
    3: "8c629e779a663698b9a33866c026726c21a679f61eb6e1f8c79ba7e23c8299e0",
    4: "5feb5321f01da156898e2bf629a5d3438412cdbd23f48942464526315db33ffd",
    5: "8792786c87937064bf1bc0e43f1fc0e03f1cc2e33da4c2537cec821b2ce4f376",
}
# A bit whose frequency lies at the median falls this way or that with the processor's rounding.
ROUNDING = 2
NEAR = 31
DECODER = ImageDecoder(ImageLimits())


@pytest.fixture
def careful() -> Iterator[ImageDecoder]:
    """A decoder that is closed with its processes."""
    decoder = ImageDecoder(ImageLimits())
    yield decoder
    decoder.close()


def square(side: int) -> Transform:
    return Transform(side, side, "shortest", "bicubic")


def bits(one: PerceptualHash, other: PerceptualHash | bytes) -> int:
    """How many bits two hashes differ in."""
    theirs = other if isinstance(other, bytes) else other.hash
    return sum((mine ^ its).bit_count() for mine, its in zip(one.hash, theirs, strict=True))


def hashed(content: bytes, side: int = 224, decoder: ImageDecoder = DECODER) -> PerceptualHash:
    """The hash that a model of this size gets."""
    found = decoder.prepare(content, square(side), hashed=True).perceptual_hash
    assert found is not None
    return found


def test_hash_is_that_of_the_published_code() -> None:
    photographs = load_photographs()
    for number, expected in PUBLISHED.items():
        made = hash_pixels(np.asarray(photographs[number]))
        assert bits(made, bytes.fromhex(expected)) <= ROUNDING, number
        assert made.quality == 100


def test_quality_is_that_of_the_published_code() -> None:
    import skimage.data

    data: Any = skimage.data
    moon = np.repeat(np.asarray(data.moon())[..., None], 3, axis=2)
    made = hash_pixels(moon)
    assert bits(made, bytes.fromhex("131645cde366d981e1e371b264d8b25b9e4d13771d8c4f366d946ca57133d0c9")) <= ROUNDING
    assert abs(made.quality - 83) <= 1


def test_every_size_of_a_model_and_every_way_of_decoding_gives_one_hash() -> None:
    for size in ((640, 480), (900, 1800)):
        content = encoded(photograph(2, size), "JPEG", quality=90)
        one = hashed(content)
        assert one.quality >= 50
        assert hashed(content, 32) == hashed(content, 384) == hashed(content, 512) == one
        assert hashed(content, decoder=ImageDecoder(ImageLimits(), scaled=False)) == one
        assert DECODER.check(content, hashed=True).perceptual_hash == one


def test_careful_decoding_gives_the_same_hash(careful: ImageDecoder) -> None:
    image = photograph(3, (500, 400))
    bmp, png = encoded(image, "BMP"), encoded(image)
    assert hashed(bmp, decoder=careful) == hashed(png)
    assert careful.check(bmp, hashed=True).perceptual_hash == hashed(png)


def test_a_large_jpeg_is_hashed_at_a_part_of_its_size_which_changes_few_bits() -> None:
    for number in (0, 3, 5):
        content = encoded(photograph(number, (2000, 1500)), "JPEG", quality=90)
        assert jpeg_part(1500, 2000) == 2
        whole = hash_pixels(np.asarray(DECODER.check(content).image))
        assert bits(hashed(content), whole) <= 4


def test_who_does_not_ask_gets_no_hash() -> None:
    content = encoded(photograph(0, (64, 48)))
    assert DECODER.prepare(content, square(32)).perceptual_hash is None
    assert DECODER.check(content).perceptual_hash is None


@pytest.mark.parametrize("number", STORED)
def test_orientation_is_undone_first(number: int) -> None:
    image = photograph(1, (320, 200))
    upright = hash_pixels(np.asarray(image))
    stored = STORED[number](image)
    assert bits(hashed(encoded(stored, "PNG", exif=oriented(number))), upright) == 0
    jpeg = hashed(encoded(stored, "JPEG", quality=95, subsampling=0, exif=oriented(number)))
    assert bits(jpeg, upright) <= 6


def test_modes_of_one_image_have_hashes_that_are_near(careful: ImageDecoder) -> None:
    image = photograph(4, (400, 300))
    one = hash_pixels(np.asarray(image))
    deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    files = {mode: encoded(image.convert(mode)) for mode in ("L", "P", "RGBA", "LA")}
    files |= {"CMYK": encoded(image.convert("CMYK"), "TIFF"), "16 bits": encoded(deep)}
    for mode, file in files.items():
        assert bits(hashed(file, decoder=careful), one) <= 12, mode


def test_transparency_is_seen_as_the_policy_shows_it() -> None:
    image = photograph(2, (300, 300)).convert("RGBA")
    image.paste((0, 0, 0, 0), (40, 30, 250, 170))
    file = encoded(image)
    white = DECODER.prepare(file, square(64), transparency=Transparency.WHITE, hashed=True).perceptual_hash
    flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    assert white == hash_pixels(np.asarray(flat))
    assert bits(hashed(file), flat_hash := hash_pixels(np.asarray(image.convert("RGB")))) == 0
    assert white is not None
    assert bits(white, flat_hash) > NEAR


@pytest.mark.parametrize("size", [(1, 1), (4, 800), (800, 4), (64, 64)])
def test_where_there_is_nothing_to_see_the_hash_is_zeros_of_quality_0(size: tuple[int, int]) -> None:
    assert hashed(encoded(Image.new("RGB", size, (40, 90, 200)))) == PerceptualHash(bytes(32), 0)


@pytest.mark.parametrize("size", [(5, 5), (5, 1000), (900, 5), (9, 1791), (5000, 30), (3000, 3000)])
def test_images_of_any_shape_have_a_hash(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    made = hash_pixels(noise)
    assert len(made.hash) == 32
    # Half of the frequencies lie above their median, but for those that are equal to it.
    assert 100 <= sum(byte.bit_count() for byte in made.hash) <= 128


def test_averaging_a_very_long_side_first_changes_few_bits() -> None:
    whole = load_photographs()[0]
    wide = whole.resize((6000, 300), Image.Resampling.BICUBIC)
    assert bits(hash_pixels(np.asarray(wide)), hash_pixels(np.asarray(wide.reduce((4, 1))))) <= 8


COPIES: Mapping[str, Callable[[Image.Image], bytes]] = {
    "recompressed": lambda image: encoded(image, "JPEG", quality=30),
    "half size": lambda image: encoded(image.reduce(2), "JPEG", quality=85),
    "blurred": lambda image: encoded(image.filter(ImageFilter.GaussianBlur(1.5)), "WEBP", quality=70),
    "twice the size": lambda image: encoded(image.resize((image.width * 2, image.height * 2)), "JPEG"),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_near_and_another_image_is_far(copy: str) -> None:
    originals = [one.resize((480, 360)) for one in load_photographs()]
    hashes = [hash_pixels(np.asarray(one)) for one in originals]
    for number, original in enumerate(originals):
        copied = hashed(COPIES[copy](original))
        assert [bits(copied, one) <= NEAR for one in hashes] == [one is original for one in originals], number


@pytest.mark.parametrize("colour", ["white", "black", (200, 30, 40)])
def test_what_a_frame_surrounds_is_hashed_as_well(colour: str | tuple[int, int, int]) -> None:
    for number, one in enumerate(load_photographs()):
        image = one.resize((480, 360))
        plain = hashed(encoded(image, "JPEG", quality=85))
        framed = hashed(encoded(ImageOps.expand(image, 18, colour), "JPEG", quality=85))
        assert bits(framed, plain) > NEAR, "a frame changes the hash of the whole"
        assert framed.unframed, number
        assert bits(PerceptualHash(framed.unframed, 100), plain) <= NEAR, number


def test_bars_at_two_sides_are_a_frame() -> None:
    image = load_photographs()[3].resize((400, 300))
    barred = Image.new("RGB", (400, 360), "black")
    barred.paste(image, (0, 30))
    assert hash_pixels(np.asarray(barred)).unframed == hash_pixels(np.asarray(image)).hash


def graded(darkest: int, side: int = 256) -> Image.Image:
    """A drawing on a ground that is white at the bottom, and darker by so much at the top."""
    ground = np.linspace(255 - darkest, 255, side).round().astype(np.uint8)
    image = Image.fromarray(np.broadcast_to(ground[:, None, None], (side, side, 3)).copy())
    pen = ImageDraw.Draw(image)
    for x, y in ((80, 90), (150, 70), (110, 170), (180, 160)):
        pen.ellipse((x - 22, y - 22, x + 22, y + 22), fill="black")
    return image


def found(framed: bytes, original: Image.Image, within: int = NEAR) -> bool:
    """Whether what the frame surrounds has the original's hash, but for few bits."""
    unframed = hashed(framed).unframed
    plain = hashed(encoded(original, "JPEG", quality=90))
    return bool(unframed) and bits(PerceptualHash(unframed, 100), plain) <= within


@pytest.mark.parametrize("width", [5, 13, 26])
@pytest.mark.parametrize("darkest", [12, 40])
def test_a_frame_is_found_around_an_image_that_is_of_its_colour_at_one_side(darkest: int, width: int) -> None:
    image = graded(darkest)
    for turns in range(4):
        turned = image.rotate(90 * turns)
        assert found(encoded(ImageOps.expand(turned, width, "white"), "JPEG", quality=90), turned), turns


def test_a_frame_is_found_around_a_ground_that_is_a_few_levels_darker() -> None:
    image = graded(0).point(lambda level: max(0, level - 4))
    assert found(encoded(ImageOps.expand(image, 13, "white"), "JPEG", quality=90), image)


def test_colours_that_jpeg_carries_beyond_an_edge_do_not_move_it() -> None:
    image = graded(0)
    assert found(encoded(ImageOps.expand(image, 13, (200, 30, 40)), "JPEG", quality=90), image, within=8)


@pytest.mark.parametrize("colour", ["white", "black", (200, 30, 40)])
def test_a_frame_is_found_where_the_copy_is_strongly_compressed_or_blurred(
    colour: str | tuple[int, int, int],
) -> None:
    for number, one in enumerate(load_photographs()):
        image = one.resize((480, 360))
        framed = ImageOps.expand(image, 21, colour)
        assert found(encoded(framed, "JPEG", quality=30), image), number
        assert found(encoded(framed.filter(ImageFilter.GaussianBlur(1)), "JPEG", quality=90), image), number


def test_a_frame_is_found_under_grain() -> None:
    image = load_photographs()[3].resize((480, 360))
    framed = np.asarray(ImageOps.expand(image, 21, (230, 230, 230)))
    grain = np.random.default_rng(1).normal(0, 8, framed.shape[:2])[..., None]
    grained = Image.fromarray((framed + grain).round().clip(0, 255).astype(np.uint8))
    assert found(encoded(grained), image)


def test_a_ground_that_grows_darker_has_no_frame() -> None:
    for turns in range(4):
        assert not hash_pixels(np.asarray(graded(40).rotate(90 * turns))).unframed


def test_bars_are_cut_alone_where_the_image_fades_into_their_colour_at_its_other_sides() -> None:
    light = np.clip((165 - np.abs(np.arange(400) - 200)) / 160, 0, 1)
    image = (np.asarray(load_photographs()[3].resize((400, 300))) * light[:, None]).astype(np.uint8)
    barred = np.pad(image, ((30, 30), (0, 0), (0, 0)))
    assert hash_pixels(barred).unframed == hash_pixels(image).hash


def test_a_thing_on_a_ground_has_no_frame() -> None:
    image = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(image).ellipse((40, 60, 200, 190), fill="black")
    assert not hash_pixels(np.asarray(image)).unframed


def test_a_mirrored_or_turned_image_is_another_one() -> None:
    image = load_photographs()[2]
    one = hash_pixels(np.asarray(image))
    for other in (ImageOps.mirror(image), image.rotate(90, expand=True)):
        assert bits(one, hash_pixels(np.asarray(other))) > NEAR


def test_a_drawing_with_little_to_see_tells_so() -> None:
    image = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(image).ellipse((120, 120, 136, 136), fill="grey")
    assert hashed(encoded(image)).quality < 50
