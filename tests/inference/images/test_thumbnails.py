"""Thumbnails: upright, opaque and small, whatever an image is and whichever way it is decoded."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from lensmesh_chassis.thumbnails import MOST_PX, most_bytes
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.thumbnail import Thumbnail, thumbnail_of
from lensmesh_inference.images.transform import Transform
from lensmesh_inference.images.transparency import Transparency
from tests.inference.images.encoded import STORED, encoded, noise, oriented

DECODER = ImageDecoder(ImageLimits())
MODEL = Transform(64, 64, "shortest", "bicubic")
COLOURS = ("red", "lime", "blue", "yellow")


@pytest.fixture(scope="module")
def careful() -> Iterator[ImageDecoder]:
    """A decoder that is closed with its processes."""
    decoder = ImageDecoder(ImageLimits())
    yield decoder
    decoder.close()


def quarters(size: tuple[int, int] = (640, 480)) -> Image.Image:
    """An image of four colours, one in each quarter."""
    image = Image.new("RGB", size)
    width, height = size[0] // 2, size[1] // 2
    for place, colour in enumerate(COLOURS):
        left, top = place % 2 * width, place // 2 * height
        image.paste(Image.new("RGB", (width, height), colour), (left, top))
    return image


def opened(thumbnail: Thumbnail | None) -> Image.Image:
    """A thumbnail as an image; it is what it says."""
    assert thumbnail is not None
    image = Image.open(io.BytesIO(thumbnail.content))
    assert (image.format, image.mode, image.size) == ("WEBP", "RGB", (thumbnail.width, thumbnail.height))
    assert not getattr(image, "is_animated", False)
    assert "exif" not in image.info
    return image


def thumbnail(
    content: bytes, px: int = 160, transparency: Transparency = Transparency.DROP, decoder: ImageDecoder = DECODER
) -> Image.Image:
    """The same whether a model is real or none."""
    made = opened(decoder.prepare(content, MODEL, transparency=transparency, thumbnail_px=px).thumbnail)
    whole = opened(decoder.check(content, transparency=transparency, thumbnail_px=px).thumbnail)
    assert made.size == whole.size
    assert np.abs(pixels(made) - pixels(whole)).mean() < 4
    return made


def pixels(image: Image.Image) -> npt.NDArray[np.int_]:
    return np.asarray(image.convert("RGB")).astype(int)


def shows(image: Image.Image, wanted: Image.Image, within: float = 12) -> bool:
    """Whether it looks like the wanted image, made as small."""
    return bool(np.abs(pixels(image) - pixels(wanted.resize(image.size))).mean() < within)


def animated() -> bytes:
    frames = [quarters((300, 200)), Image.new("RGB", (300, 200), "black")]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)


def deep() -> bytes:
    levels = (np.asarray(quarters().convert("L")).astype(np.uint16) * 257).astype("<u2")
    return encoded(Image.fromarray(levels))


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (lambda: encoded(quarters(), "JPEG", quality=95), quarters()),
        (lambda: encoded(quarters((2560, 1920)), "JPEG", quality=95), quarters()),
        (lambda: encoded(quarters()), quarters()),
        (lambda: encoded(quarters(), "WEBP", lossless=True), quarters()),
        (animated, quarters()),
        (lambda: encoded(quarters().convert("CMYK"), "JPEG", quality=95), quarters()),
        (deep, quarters().convert("L")),
        (lambda: encoded(quarters().convert("P")), quarters()),
    ],
    ids=["jpeg", "large jpeg", "png", "webp", "animated", "inks", "16 bits", "palette"],
)
def test_each_kind_of_image_looks_as_it_is(content: Callable[[], bytes], wanted: Image.Image) -> None:
    made = thumbnail(content())
    assert max(made.size) == 160
    assert shows(made, wanted)


def test_a_kind_that_is_decoded_in_a_process_does_too(careful: ImageDecoder) -> None:
    for content in (encoded(quarters(), "BMP"), encoded(quarters(), "TIFF")):
        made = thumbnail(content, decoder=careful)
        assert (made.size, shows(made, quarters())) == ((160, 120), True)


@pytest.mark.parametrize("number", STORED)
def test_it_is_upright_and_says_nothing_of_how_it_was_stored(number: int) -> None:
    for size in ((640, 480), (1600, 1200)):
        stored = STORED[number](quarters(size))
        for format_ in ("JPEG", "PNG", "WEBP"):
            made = thumbnail(encoded(stored, format_, exif=oriented(number)))
            assert made.size == (160, 120)
            assert shows(made, quarters(size)), format_


def test_what_is_transparent_shows_what_the_policy_shows() -> None:
    image = quarters((300, 200)).convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    dropped = thumbnail(encoded(image))
    white = thumbnail(encoded(image), transparency=Transparency.WHITE)
    assert shows(dropped, image.convert("RGB"))
    assert shows(white, Image.new("RGB", image.size, "white"))


@pytest.mark.parametrize(
    ("size", "px", "wanted"),
    [
        ((1, 1), 320, (1, 1)),
        ((31, 17), 320, (31, 17)),
        ((320, 240), 320, (320, 240)),
        ((2000, 10), 320, (320, 2)),
        ((10, 2000), 32, (1, 32)),
        ((1300, 700), MOST_PX, (1024, 551)),
    ],
)
def test_it_is_never_larger_than_the_image_and_at_least_a_pixel(
    size: tuple[int, int], px: int, wanted: tuple[int, int]
) -> None:
    for format_ in ("JPEG", "PNG"):
        assert thumbnail(encoded(Image.new("RGB", size, "teal"), format_), px).size == wanted


@pytest.mark.parametrize("px", [32, 320, MOST_PX])
def test_noise_fits_into_the_bytes_that_are_told(px: int) -> None:
    black_and_white = noise(size=(px, px)).point(lambda level: 255 * (level > 127))
    for image in (noise(size=(px, px)), black_and_white):
        assert 0 < len(thumbnail_of(image, px).content) <= most_bytes(px)


def test_a_narrow_image_fits_too() -> None:
    """Its pixels are few, and each of them is in a block of many."""
    content = thumbnail_of(noise(size=(MOST_PX, 5)), MOST_PX).content
    assert len(content) <= most_bytes(MOST_PX)


def test_none_is_made_unless_it_is_asked_for() -> None:
    content = encoded(quarters())
    assert DECODER.prepare(content, MODEL).thumbnail is None
    assert DECODER.check(content).thumbnail is None


def test_what_is_made_beside_it_stays_as_it_was() -> None:
    for content in (encoded(quarters((1500, 1100)), "JPEG"), encoded(quarters())):
        alone = DECODER.prepare(content, MODEL, hashed=True)
        beside = DECODER.prepare(content, MODEL, hashed=True, thumbnail_px=MOST_PX)
        assert beside.perceptual_hash == alone.perceptual_hash
        assert bool((beside.pixels == alone.pixels).all())
