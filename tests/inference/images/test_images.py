"""Every way an image can be bad has its own reason; every odd but good one has a defined result."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images.limits import FORMATS, ImageLimits
from lensmesh_inference.images.pillow import decode_image
from lensmesh_inference.images.prepare import prepare
from lensmesh_inference.images.transform import Transform
from tests.inference.images.encoded import STORED, encoded, noise, oriented

LIMITS = ImageLimits()
TRANSFORM = Transform(32, 32, "shortest", "bicubic")


def refused(content: bytes, limits: ImageLimits = LIMITS) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        decode_image(content, limits, "images[3].content")
    with pytest.raises(InvalidInput) as prepared:
        prepare(content, TRANSFORM, limits, "images[3].content")
    # Decoded for a model or only to be checked: a bad image is bad in the same words.
    assert (prepared.value.reason, prepared.value.message) == (caught.value.reason, caught.value.message)
    assert (prepared.value.metadata, prepared.value.violations) == (caught.value.metadata, caught.value.violations)
    assert caught.value.violations[0].field == "images[3].content"
    assert "images[3].content" in caught.value.message
    return caught.value


def png_header(width: int, height: int) -> bytes:
    """A PNG that says how large it is, and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_is_read(format_: str) -> None:
    image = decode_image(encoded(noise(), format_), LIMITS)
    assert (image.mode, image.size) == ("RGB", (64, 48))


def test_empty() -> None:
    assert refused(b"").reason is Reason.IMAGE_EMPTY


def test_over_the_byte_limit() -> None:
    error = refused(b"x" * 11, ImageLimits(max_bytes=10))
    assert error.reason is Reason.IMAGE_TOO_LARGE
    assert error.metadata == {"bytes": "11", "max_image_bytes": "10"}


def test_at_the_byte_limit() -> None:
    content = encoded(noise())
    assert decode_image(content, ImageLimits(max_bytes=len(content))).size == (64, 48)


@pytest.mark.parametrize("content", [b"hello, I am no image", b"\0" * 100, b"\x7fELF" + b"\1" * 60])
def test_not_an_image(content: bytes) -> None:
    assert refused(content).reason is Reason.IMAGE_UNDECODABLE


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated(format_: str, share: float) -> None:
    content = encoded(noise(), format_)
    assert refused(content[: int(len(content) * share)]).reason is Reason.IMAGE_TRUNCATED


@pytest.mark.parametrize("format_", FORMATS)
def test_truncated_within_the_header(format_: str) -> None:
    assert refused(encoded(noise(), format_)[:12]).reason is Reason.IMAGE_TRUNCATED


def test_damaged_in_the_middle() -> None:
    content = bytearray(encoded(noise()))
    content[60:400] = b"\x55" * 340
    assert refused(bytes(content)).reason is Reason.IMAGE_UNDECODABLE


def test_a_huge_header_in_a_tiny_file_is_refused_before_decoding() -> None:
    content = png_header(30_000, 30_000)
    assert len(content) < 100
    error = refused(content)
    assert error.reason is Reason.IMAGE_TOO_MANY_PIXELS
    assert error.metadata == {"width": "30000", "height": "30000", "max_image_pixels": "50000000"}


def test_pillows_bomb_warning_never_surfaces() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Above Pillow's own limit of 89 million pixels, below the one that was set: decoded, and found without data.
        error = refused(png_header(10_000, 10_000), ImageLimits(max_pixels=200_000_000))
    assert error.reason in {Reason.IMAGE_TRUNCATED, Reason.IMAGE_UNDECODABLE}


def test_a_sliver_would_explode_in_the_model() -> None:
    error = refused(encoded(Image.new("RGB", (1, 201))))
    assert error.reason is Reason.IMAGE_TOO_NARROW
    assert error.metadata == {"width": "1", "height": "201", "max_image_side_ratio": "200"}
    assert decode_image(encoded(Image.new("RGB", (1, 200))), LIMITS).size == (1, 200)


def test_one_pixel() -> None:
    image = decode_image(encoded(Image.new("RGB", (1, 1), (9, 8, 7))), LIMITS)
    assert image.size == (1, 1)
    assert image.getpixel((0, 0)) == (9, 8, 7)


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame(format_: str) -> None:
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    content = encoded(first, format_, save_all=True, append_images=[second], duration=10)
    image = decode_image(content, LIMITS)
    red, _, blue = image.getpixel((4, 4))  # type: ignore[misc]  # three numbers, as the mode is RGB
    assert red > 240
    assert blue < 15


def test_of_a_tiff_the_first_page() -> None:
    content = encoded(Image.new("L", (8, 8), 10), "TIFF", save_all=True, append_images=[Image.new("L", (9, 9), 200)])
    image = decode_image(content, LIMITS)
    assert (image.size, image.getpixel((0, 0))) == ((8, 8), (10, 10, 10))


@pytest.mark.parametrize(
    ("mode", "format_"),
    [
        ("CMYK", "JPEG"),
        ("CMYK", "TIFF"),
        ("L", "JPEG"),
        ("1", "PNG"),
        ("LA", "PNG"),
        ("RGBA", "PNG"),
        ("RGBA", "WEBP"),
        ("P", "PNG"),
        ("P", "GIF"),
    ],
)
def test_colours_are_those_of_open_clips_own_conversion(mode: str, format_: str) -> None:
    content = encoded(noise(mode), format_)
    expected = Image.open(io.BytesIO(content)).convert("RGB")
    assert decode_image(content, LIMITS).tobytes() == expected.tobytes()


def test_a_palette_with_alpha_keeps_its_colours_and_drops_the_alpha() -> None:
    image = noise("P")
    content = encoded(image, transparency=bytes(range(256)))
    assert decode_image(content, LIMITS).tobytes() == image.convert("RGB").tobytes()


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    levels = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    for format_ in ("PNG", "TIFF"):
        image = decode_image(encoded(Image.fromarray(levels), format_), LIMITS)
        assert [image.getpixel((x, 0)) for x in range(4)] == [(v, v, v) for v in (0, 1, 128, 255)], format_


def test_16_bit_big_endian_tiff() -> None:
    pixels = struct.pack(">4H", 0, 257, 32768, 65535)
    tags = [(256, 4, 1, 4), (257, 4, 1, 1), (258, 3, 1, 16 << 16), (259, 3, 1, 1 << 16), (262, 3, 1, 1 << 16)]
    tags += [(273, 4, 1, 8), (277, 3, 1, 1 << 16), (278, 4, 1, 1), (279, 4, 1, 8)]
    directory = struct.pack(">H", len(tags)) + b"".join(struct.pack(">HHII", *tag) for tag in tags) + b"\0\0\0\0"
    content = b"MM\0*" + struct.pack(">I", 16) + pixels + directory
    image = decode_image(content, LIMITS)
    assert [image.getpixel((x, 0)) for x in range(4)] == [(v, v, v) for v in (0, 1, 128, 255)]


@pytest.mark.parametrize(("top", "expected"), [(1.0, 255), (255.0, 255), (1e9, 255)])
def test_floating_point_tiff(top: float, expected: int) -> None:
    levels = np.array([[0.0, top, np.nan]], dtype=np.float32)
    image = decode_image(encoded(Image.fromarray(levels), "TIFF"), LIMITS)
    assert [image.getpixel((x, 0)) for x in range(3)] == [(v, v, v) for v in (0, expected, 0)]


def test_32_bit_tiff() -> None:
    levels = np.array([[0, 257, 65535]], dtype=np.int32)
    image = decode_image(encoded(Image.fromarray(levels), "TIFF"), LIMITS)
    assert [image.getpixel((x, 0)) for x in range(3)] == [(v, v, v) for v in (0, 1, 255)]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(orientation: int, format_: str) -> None:
    upright = Image.new("RGB", (16, 32), (0, 0, 0))
    upright.paste((255, 255, 255), (0, 0, 8, 16))
    lossless = {"lossless": True} if format_ == "WEBP" else {}
    image = decode_image(encoded(STORED[orientation](upright), format_, exif=oriented(orientation), **lossless), LIMITS)
    assert image.size == (16, 32)
    light = np.asarray(image.convert("L")) > 128
    assert light[2:14, 2:6].all()
    assert not light[18:, :].any()
    assert not light[:, 10:].any()


# Pillow warns of it, which in a service is a line in the log.
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_broken_exif_costs_nothing() -> None:
    content = encoded(noise(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert decode_image(content, LIMITS).size == (64, 48)


def test_every_reason_of_images_that_bytes_can_have_is_met_here() -> None:
    reasons = {
        refused(b"").reason,
        refused(b"x" * 11, ImageLimits(max_bytes=10)).reason,
        refused(b"x").reason,
        refused(b"%PDF").reason,
        refused(encoded(noise())[:40]).reason,
        refused(png_header(30_000, 30_000)).reason,
        refused(png_header(201, 1)).reason,
    }
    elsewhere = {Reason.IMAGE_MISSING, Reason.IMAGE_TOO_COMPLEX, Reason.IMAGE_TOO_COSTLY}
    expected = {reason for reason in Reason if reason.startswith("IMAGE_")} - elsewhere
    assert reasons == expected


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_large_jpeg_that_is_cut_is_not_filled_up(share: float, options: dict[str, Any]) -> None:
    """Large enough to be decoded at a part of its size; libjpeg itself would only warn, and paint the rest grey."""
    content = encoded(noise(size=(320, 240)), "JPEG", **options)
    assert refused(content[: int(len(content) * share)]).reason is Reason.IMAGE_TRUNCATED


def test_nothing_of_a_bad_jpeg_is_written_to_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    content = encoded(noise(size=(64, 64)), "JPEG")
    prepare(content[:-2] + b"\0" * 50 + content[-2:], TRANSFORM, LIMITS)
    refused(content[:500])
    assert capfd.readouterr() == ("", "")
