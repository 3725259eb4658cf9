"""A file that is not read here is told by its content what it is, and never that it is damaged."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable

import pytest

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images.jpeg import check_jpeg
from lensmesh_inference.images.kinds import is_text, kind_of
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.pillow import decode_image
from lensmesh_inference.images.structure import look
from tests.inference.images.encoded import encoded, noise

REST = bytes(range(256)) * 4
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>"


def box(brand: bytes, *compatible: bytes) -> bytes:
    body = b"ftyp" + brand + b"\0\0\2\0" + b"".join(compatible)
    return struct.pack(">I", 4 + len(body)) + body + REST


KINDS = {
    "a video (MP4)": box(b"isom", b"isom", b"avc1"),
    "a video (QuickTime)": box(b"qt  "),
    "a video (3GP)": box(b"3gp4"),
    "a sound (M4A)": box(b"M4A ", b"isom"),
    "a camera raw file (CR3)": box(b"crx ", b"crx ", b"isom"),
    "HEIC": box(b"heic", b"mif1"),
    "HEIC (a sequence)": box(b"hevc", b"msf1"),
    "HEIF": box(b"mif1", b"miaf"),
    "AVIF": box(b"avif", b"mif1", b"miaf"),
    "AVIF (a sequence)": box(b"avis", b"avif"),
    "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n" + REST,
    "JPEG 2000": b"\xff\x4f\xff\x51\0\x2f" + REST,
    "a camera raw file (RAF)": b"FUJIFILMCCD-RAW 0201" + REST,
    "a camera raw file (ORF)": b"IIRO\x08\0\0\0" + REST,
    "a camera raw file (RW2)": b"IIU\0\x08\0\0\0" + REST,
    "OpenEXR": b"\x76\x2f\x31\x01\2\0\0\0" + REST,
    "Photoshop (PSD)": b"8BPS\0\1" + REST,
    "a video (AVI)": b"RIFF" + struct.pack("<I", 264) + b"AVI LIST" + REST,
    "a sound (WAVE)": b"RIFF" + struct.pack("<I", 264) + b"WAVEfmt " + REST,
    "QOI": b"qoif" + REST,
    "DICOM": bytes(128) + b"DICM" + REST,
    "TGA": bytes(18) + REST + bytes(8) + b"TRUEVISION-XFILE.\0",
    "Windows cursor (CUR)": b"\0\0\2\0\1\0\x10\x10" + REST,
    "a video (Motion JPEG 2000)": box(b"mjp2"),
    "a ZIP archive or an office document": b"PK\3\4" + REST,
    "a gzip archive": b"\x1f\x8b\x08" + REST,
    "a video (Matroska or WebM)": b"\x1aE\xdf\xa3" + REST,
}


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_named(name: str) -> None:
    assert kind_of(KINDS[name]) == name
    with pytest.raises(InvalidInput) as caught:
        decode_image(KINDS[name], ImageLimits(), "images[3]")
    assert caught.value.reason is Reason.IMAGE_FORMAT_UNSUPPORTED
    assert name in caught.value.message
    assert caught.value.metadata == {"format": name}


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"\xef\xbb\xbf",
        b" \r\n\t",
        b"<?xml version='1.0'?>\n<!-- drawn by hand -->\n",
        b"<!-- <html> -->",
        b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "svg11.dtd" [ <!ENTITY a "b"> ]>',
    ],
)
def test_svg_is_known_behind_what_may_stand_before_it(start: bytes) -> None:
    assert kind_of(start + SVG) == "SVG"


def test_images_of_tga_are_no_cursors() -> None:
    for mode, options in (
        ("RGB", {}),
        ("L", {}),
        ("RGB", {"compression": "tga_rle"}),
        ("L", {"compression": "tga_rle"}),
    ):
        content = encoded(noise(mode), "TGA", **options)
        assert kind_of(content) == "TGA"
        assert kind_of(content.partition(b"\0TRUEVISION")[0]) == "TGA"


# 16 x 16 pixels of grey.
ARITHMETIC = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1xeXBk"
    "eFxlZ2P/yQALCAAQABABAREA/8wABgAQEAX/2gAIAQEAAD8A/wBtnjuH99MkOPiYQWxi/pf/2Q=="
)


@pytest.mark.parametrize("content", [ARITHMETIC, ARITHMETIC[:-14] + ARITHMETIC[-2:]])
@pytest.mark.parametrize("check", [look, lambda content: check_jpeg(content, (1, 1))])
def test_jpeg_of_arithmetic_coding_is_named(check: Callable[[bytes], object], content: bytes) -> None:
    """Its decoder makes pixels of what is missing, and warns of nothing: a cut one could not be told."""
    with pytest.raises(InvalidInput, match="a JPEG with arithmetic coding") as caught:
        check(content)
    assert caught.value.reason is Reason.IMAGE_FORMAT_UNSUPPORTED


def test_markup() -> None:
    assert kind_of(b"<?xml version='1.0'?><x:svg xmlns:x='http://www.w3.org/2000/svg'/>") == "SVG"
    assert kind_of(SVG.decode().encode("utf-16")) == "SVG"
    assert kind_of(b"<!doctype html><title>Not found</title>") == "HTML"
    assert kind_of(b"\n<html lang=en>") == "HTML"
    assert kind_of(b"<?xml version='1.0'?><rss/>") == "XML"
    # Each of these brackets may be in the document type or not: no reading of them may take longer than one pass.
    assert kind_of(b"<!DOCTYPE svg " + b"[]" * 8000) is None


def test_every_writer_of_pillow_that_is_not_read_here_is_named() -> None:
    for format_ in ("ICO", "PPM", "TGA", "PCX", "SGI", "DDS", "JPEG2000", "ICNS", "PDF", "EPS"):
        name = kind_of(encoded(noise(), format_))
        assert name is not None or format_ == "TGA", format_


@pytest.mark.parametrize("content", [b"hello, I am no image", "größer".encode() * 90, b"BM is how this text begins"])
def test_text_is_text(content: bytes) -> None:
    assert is_text(content)
    with pytest.raises(InvalidInput, match="plain text") as caught:
        decode_image(content, ImageLimits())
    assert caught.value.reason is Reason.IMAGE_UNDECODABLE
    assert not is_text(b"\0" + content)
