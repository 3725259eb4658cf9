"""What becomes of transparency, in every way that a file can say it."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lensmesh_inference.images.content import is_low_content
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.transform import Transform
from lensmesh_inference.images.transparency import Transparency

SIZE = (64, 48)
TRANSFORM = Transform(32, 32, "squash", "bicubic")
DECODER = ImageDecoder(ImageLimits())
Make = Callable[[], bytes]


def circle(mode: str = "RGBA", hidden: tuple[int, int, int] = (0, 0, 0)) -> Image.Image:
    """A red circle on ground that is clear and has a colour of its own."""
    image = Image.new("RGBA", SIZE, (*hidden, 0))
    ImageDraw.Draw(image).ellipse((12, 4, 52, 44), fill=(220, 20, 30, 255))
    return image.convert(mode)


def flattened(image: Image.Image) -> Image.Image:
    """As a page shows it."""
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def saved(image: Image.Image, format_: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes, trns: bytes = b"") -> bytes:
    """A PNG of samples that Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    stride = len(rows) // height
    filtered = b"".join(b"\0" + rows[start : start + stride] for start in range(0, len(rows), stride))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    told = chunk(b"tRNS", trns) if trns else b""
    data = chunk(b"IDAT", zlib.compress(filtered))
    return b"\x89PNG\r\n\x1a\n" + header + told + data + chunk(b"IEND", b"")


def palette_png() -> bytes:
    image = flattened(circle()).quantize(8)
    clear = image.getpixel((0, 0))
    assert isinstance(clear, int)
    return saved(image, "PNG", transparency=bytes([0 if index == clear else 255 for index in range(8)]))


def half_clear_palette() -> bytes:
    image = Image.new("P", SIZE, 0)
    image.putpalette([0, 0, 255, 0, 0, 0])
    return saved(image, "PNG", transparency=bytes([128, 255]))


def deep(alpha: int) -> bytes:
    """16-bit RGBA of one colour."""
    pixel = struct.pack(">4H", 0x2000, 0x8000, 0xE000, alpha)
    return png(8, 8, 16, 6, pixel * 64)


DEEP_COLOUR = struct.pack(">3H", 258, 772, 1286)
SHOWN_WHITE: dict[str, Make] = {
    "RGBA PNG": lambda: saved(circle(), "PNG"),
    "LA PNG": lambda: saved(circle("LA"), "PNG"),
    "palette PNG": palette_png,
    "WebP": lambda: saved(circle(), "WEBP", lossless=True, exact=True),
    "GIF": lambda: saved(circle(), "GIF"),
    "TIFF": lambda: saved(circle(), "TIFF"),
    "TIFF LA": lambda: saved(circle("LA"), "TIFF"),
    "16-bit RGBA": lambda: deep(0),
    "16-bit grey and alpha": lambda: png(8, 8, 16, 4, struct.pack(">2H", 0x1000, 0) * 64),
    "grey tRNS, 1 bit": lambda: png(8, 8, 1, 0, b"\0" * 8, struct.pack(">H", 0)),
    "grey tRNS, 2 bits": lambda: png(8, 8, 2, 0, b"\x55" * 16, struct.pack(">H", 1)),
    "grey tRNS, 4 bits": lambda: png(8, 8, 4, 0, b"\x77" * 32, struct.pack(">H", 7)),
    "grey tRNS, 8 bits": lambda: png(8, 8, 8, 0, b"\x40" * 64, struct.pack(">H", 0x40)),
    "grey tRNS, 16 bits": lambda: png(8, 8, 16, 0, struct.pack(">H", 0x1234) * 64, struct.pack(">H", 0x1234)),
    "RGB tRNS": lambda: png(8, 8, 8, 2, b"\1\2\3" * 64, struct.pack(">3H", 1, 2, 3)),
    "RGB tRNS, 16 bits": lambda: png(8, 8, 16, 2, DEEP_COLOUR * 64, DEEP_COLOUR),
}


@pytest.mark.parametrize("kind", SHOWN_WHITE)
def test_what_is_clear_is_white_on_white_and_its_hidden_colour_without(kind: str) -> None:
    content = SHOWN_WHITE[kind]()
    white = np.asarray(DECODER.check(content, transparency=Transparency.WHITE).image)
    dropped = np.asarray(DECODER.check(content).image)
    assert (white[0, 0] == 255).all()
    if "palette" not in kind and "GIF" not in kind:
        assert (dropped[0, 0] < 250).any(), "the colours under the alpha channel"


@pytest.mark.parametrize("content", [saved(circle(), "PNG"), saved(circle(hidden=(9, 200, 90)), "TIFF"), deep(0x8000)])
def test_on_white_it_is_what_a_page_shows(content: bytes) -> None:
    shown = flattened(Image.open(io.BytesIO(content)))
    white = DECODER.prepare(content, TRANSFORM, transparency=Transparency.WHITE).pixels.numpy()
    flat = DECODER.prepare(saved(shown, "PNG"), TRANSFORM).pixels.numpy()
    assert np.abs(white.astype(int) - flat.astype(int)).max() <= 1
    dropped = DECODER.prepare(content, TRANSFORM).pixels.numpy()
    assert np.abs(dropped.astype(int) - flat.astype(int)).max() > 50


def test_half_clear_colours_of_a_palette_let_white_through() -> None:
    white = np.asarray(DECODER.check(half_clear_palette(), transparency=Transparency.WHITE).image)
    assert np.abs(white[0, 0].astype(int) - [127, 127, 255]).max() <= 1


def test_associated_alpha_is_no_darker_than_it_was() -> None:
    """Colours that were multiplied by alpha already are not multiplied twice."""
    straight = Image.new("RGBA", SIZE, (200, 100, 50, 128))
    premultiplied = Image.frombytes("RGBA", SIZE, straight.convert("RGBa").tobytes())
    unassociated, associated = (struct.pack("<HHIHH", 338, 3, 1, kind, 0) for kind in (2, 1))
    content = saved(premultiplied, "TIFF")
    assert unassociated in content
    content = content.replace(unassociated, associated)
    white = np.asarray(DECODER.check(content, transparency=Transparency.WHITE).image)
    assert np.abs(white[0, 0].astype(int) - np.asarray(flattened(straight))[0, 0]).max() <= 2


@pytest.mark.parametrize("policy", list(Transparency))
@pytest.mark.parametrize("format_", ["PNG", "WEBP", "TIFF"])
def test_an_image_of_which_nothing_can_be_seen_is_told(policy: Transparency, format_: str) -> None:
    clear = saved(Image.new("RGBA", SIZE, (90, 30, 200, 0)), format_)
    assert DECODER.prepare(clear, TRANSFORM, transparency=policy).fully_transparent
    assert not DECODER.prepare(saved(circle(), format_), TRANSFORM, transparency=policy).fully_transparent


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK"])
def test_opaque_images_are_the_same_by_both_policies(mode: str) -> None:
    content = saved(flattened(circle()).convert(mode), "TIFF" if mode == "CMYK" else "PNG")
    pixels = [DECODER.prepare(content, TRANSFORM, transparency=policy).pixels for policy in Transparency]
    assert (pixels[0] == pixels[1]).all()


@pytest.mark.parametrize(
    ("image", "low"),
    [
        (Image.new("RGB", SIZE, "white"), True),
        (Image.new("L", SIZE, 0), True),
        (Image.new("CMYK", SIZE, (10, 20, 30, 40)), True),
        (Image.effect_noise(SIZE, 2), True),
        (Image.effect_noise(SIZE, 20), False),
        (Image.linear_gradient("L"), False),
        (flattened(circle()), False),
    ],
)
def test_images_of_one_colour_are_told(image: Image.Image, low: bool) -> None:
    for format_, options in (("TIFF", {}), ("JPEG", {"quality": 60})):
        content = saved(image, format_, **options)
        assert DECODER.prepare(content, TRANSFORM).low_content is low
        assert DECODER.check(content).low_content() is low


def test_a_thing_beside_the_middle_is_seen() -> None:
    """The middle is looked at first, and is of one colour here."""
    image = Image.new("RGB", (640, 480), "white")
    image.paste("red", (600, 20, 640, 60))
    assert not DECODER.check(saved(image, "PNG")).low_content()


def test_a_speck_is_nothing_and_a_small_thing_is_something() -> None:
    pixels = np.full((3, 224, 224), 250, np.uint8)
    pixels[:, 100:107, 100:107] = 0
    assert is_low_content(pixels)
    pixels[:, 100:120, 100:120] = 0
    assert not is_low_content(pixels)


def test_looking_at_some_pixels_first_never_changes_the_answer() -> None:
    random = np.random.default_rng(0)
    for _ in range(100):
        height, width = random.integers(1, 90, 2)
        pixels = np.full((3, height, width), random.integers(0, 256), np.int16)
        pixels += random.integers(-8, 9, pixels.shape, dtype=np.int16)
        spoiled = random.random((height, width)) < random.choice([0, 0.002, 0.01])
        pixels[:, spoiled] = random.integers(0, 256)
        image = pixels.clip(0, 255).astype(np.uint8)
        low = []
        for plane in image:
            ordered, out = np.sort(plane.ravel()), int(plane.size * 0.002)
            low.append(int(ordered[plane.size - 1 - out]) - int(ordered[out]) <= 12)
        assert is_low_content(image) is all(low)


def test_what_the_model_does_not_see_is_part_of_the_image() -> None:
    """Of a wide image the middle alone is kept; what is to its right is made where the rest is of one colour."""
    for turned in (False, True):
        image = Image.new("RGB", (900, 240), "white")
        image.paste(circle().convert("RGB").resize((200, 200)), (690, 20))
        image = image.transpose(Image.Transpose.ROTATE_90) if turned else image
        for format_ in ("JPEG", "PNG"):
            made = DECODER.prepare(saved(image, format_), Transform(224, 224, "shortest", "bicubic"))
            assert not made.low_content
            assert (made.pixels > 250).all()
