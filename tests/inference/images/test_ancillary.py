"""What is not pixels decides about no image: it is decoded as if its broken metadata were not there."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import TiffImagePlugin

from lensmesh_inference.images.ancillary import without_ancillary
from lensmesh_inference.images.limits import FORMATS, ImageLimits
from lensmesh_inference.images.orientation import orientation_in
from lensmesh_inference.images.pillow import decode_image
from lensmesh_inference.images.prepare import prepare
from lensmesh_inference.images.transform import Transform
from tests.inference.images.encoded import encoded, noise, oriented

TRANSFORM = Transform(32, 32, "squash", "bicubic")
# Longer than the longest text or profile that Pillow unpacks.
LONG = zlib.compress(bytes(2 << 20))
XMP = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'


def chunk(kind: bytes, data: bytes, *, wrong: bool = False) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ wrong)


def png_with(*chunks: bytes) -> bytes:
    good = encoded(noise())
    return good[:33] + b"".join(chunks) + good[33:]


def segment(marker: int, data: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg_with(*segments: bytes) -> bytes:
    good = encoded(noise(), "JPEG", quality=90)
    return good[:2] + b"".join(segments) + good[2:]


def webp_with(kind: bytes, data: bytes, length: int | None = None) -> bytes:
    whole = encoded(noise(), "WEBP", lossless=True, exif=oriented(1))[12:]
    whole += kind + struct.pack("<I", len(data) if length is None else length) + data
    return b"RIFF" + struct.pack("<I", len(whole) + 4) + b"WEBP" + whole


def gif_with(*blocks: bytes) -> bytes:
    good = encoded(noise(), "GIF")
    at = 13 + (3 << ((good[10] & 7) + 1))
    return b"GIF89a" + good[6:at] + b"".join(blocks) + good[at:]


PNG = {
    "a profile that unpacks to 2 MiB": png_with(chunk(b"iCCP", b"p\0\0" + LONG)),
    "a text that unpacks to 2 MiB": png_with(chunk(b"zTXt", b"k\0\0" + LONG)),
    "an international text that unpacks to 2 MiB": png_with(chunk(b"iTXt", b"k\0\1\0\0\0" + LONG)),
    "an empty profile": png_with(chunk(b"iCCP", b"")),
    "a short pHYs": png_with(chunk(b"pHYs", b"\0")),
    "a short gAMA": png_with(chunk(b"gAMA", b"\0")),
    "a short cHRM": png_with(chunk(b"cHRM", b"\0\0\0\1")),
    "an empty sRGB": png_with(chunk(b"sRGB", b"")),
    "a short acTL": png_with(chunk(b"acTL", b"\0")),
    "a short tRNS": png_with(chunk(b"tRNS", b"\0")),
    "a broken EXIF": png_with(chunk(b"eXIf", b"garbage")),
    "a text that is not UTF-8": png_with(chunk(b"iTXt", b"k\0\0\0\xff\0\xff\0\xff\xfe")),
    "all of it at once": png_with(chunk(b"iCCP", b"p\0\0" + LONG), chunk(b"gAMA", b"", wrong=True)),
    **{
        f"a wrong checksum of {kind.decode()}": png_with(chunk(kind, b"\0" * size, wrong=True))
        for kind, size in ((b"tEXt", 4), (b"tIME", 7), (b"gAMA", 4), (b"pHYs", 9), (b"eXIf", 8), (b"prVt", 3))
    },
}
JPEG = {
    "a short profile": jpeg_with(segment(0xE2, b"ICC_PROFILE\0")),
    "a broken profile": jpeg_with(segment(0xE2, b"ICC_PROFILE\0\1\2garbage")),
    "a short Adobe": jpeg_with(segment(0xEE, b"Adobe")),
    "a short EXIF": jpeg_with(segment(0xE1, b"Exif\0\0")),
    "a broken EXIF": jpeg_with(segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff garbage")),
    "a short Photoshop": jpeg_with(segment(0xED, b"Photoshop 3.0\x008BIM\4\4\0\0\0\0\xff")),
    "a broken MPF": jpeg_with(segment(0xE2, b"MPF\0II*\0\xff\xff")),
    "a short JFIF": jpeg_with(segment(0xE0, b"JFIF")),
    "a JFIF of version 9": jpeg_with(segment(0xE0, b"JFIF\0\x09\x09\0\0\1\0\1\0\0")),
    "a broken XMP": jpeg_with(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x")),
}
WEBP = {
    "a broken profile": webp_with(b"ICCP", b"garbage"),
    "a broken EXIF": webp_with(b"EXIF", b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "a broken XMP": webp_with(b"XMP ", b"<x"),
    "an unknown chunk that is cut": webp_with(b"prVt", b"1234", length=4000),
}
GIF = {
    "a short control": gif_with(b"!\xf9\1\0\0"),
    "an empty comment": gif_with(b"!\xfe\0"),
    "a broken application": gif_with(b"!\xff\3NET\0"),
    "an unknown block": gif_with(b"!\x42\2ab\0"),
    "an unknown block without data": gif_with(b"!\xce\0"),
    "a control without data": gif_with(b"!\xf9\0"),
    "an application without data": gif_with(b"!\xfe\2ab\0", b"!\xff\0"),
}


@pytest.mark.parametrize(
    "content",
    [*PNG.values(), *JPEG.values(), *WEBP.values(), *GIF.values()],
    ids=[
        f"{format_}: {name}"
        for format_, cases in (("PNG", PNG), ("JPEG", JPEG), ("WebP", WEBP), ("GIF", GIF))
        for name in cases
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_metadata_never_decides(content: bytes) -> None:
    image = decode_image(content, ImageLimits())
    format_ = {b"\xff\xd8": "JPEG", b"GI": "GIF"}.get(content[:2], "PNG")
    options = {"quality": 90} if format_ == "JPEG" else {}
    assert image.tobytes() == decode_image(encoded(noise(), format_, **options), ImageLimits()).tobytes()
    assert prepare(content, TRANSFORM, ImageLimits()).pixels.shape == (3, 32, 32)


@pytest.mark.parametrize("format_", FORMATS)
def test_an_image_without_metadata_is_the_same_image(format_: str) -> None:
    options = {"lossless": True} if format_ == "WEBP" else {}
    content = encoded(noise("RGBA" if format_ in ("PNG", "WEBP") else "RGB"), format_, exif=oriented(6), **options)
    bare = without_ancillary(content)
    if bare is None:
        assert format_ in ("BMP", "TIFF")
        return
    assert decode_image(bare, ImageLimits()).tobytes() == decode_image(content, ImageLimits()).tobytes()


def test_an_extension_without_data_hides_no_frame() -> None:
    """Pillow takes the frame behind it for its data, and shows the second one."""

    def frame(level: int) -> bytes:
        codes = bytes([128, *[level] * 31, 129])
        return b"," + struct.pack("<HHHHB", 0, 0, 31, 1, 0) + bytes([7, len(codes)]) + codes + b"\0"

    table = b"".join(bytes([level, level, level]) for level in range(128))
    head = b"GIF89a" + struct.pack("<HHBBB", 31, 1, 0xF6, 0, 0) + table
    for extension in (b"", b"!\xce\0", b"!\xff\0", b"!\xf9\0", b"!\xfe\2ab\0!\xce\0"):
        image = decode_image(head + extension + frame(90) + frame(20) + b";", ImageLimits())
        assert image.getcolors() == [(31, (90, 90, 90))], extension


def test_transparency_is_no_metadata() -> None:
    """tRNS and the graphic control change what is seen."""
    palette = encoded(noise("P"), transparency=bytes(range(256)))
    assert b"tRNS" in (without_ancillary(palette) or b"")
    assert b"\xf9\4" in (without_ancillary(gif_with(b"!\xf9\4\1\0\0\3\0")) or b"")


def _jpeg(xmp: bytes) -> bytes:
    return jpeg_with(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp))


@pytest.mark.parametrize(
    "make",
    [
        _jpeg,
        lambda xmp: png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)),
        lambda xmp: encoded(noise(), "WEBP", lossless=True, xmp=xmp),
        lambda xmp: encoded(noise(), "TIFF", tiffinfo={700: xmp}),
    ],
    ids=["JPEG", "PNG", "WebP", "TIFF"],
)
def test_orientation_in_xmp_alone_is_not_applied(make: Callable[[bytes], bytes]) -> None:
    """No browser applies it."""
    assert decode_image(make(XMP), ImageLimits()).size == (64, 48)
    turned, plain = (prepare(make(xmp), TRANSFORM, ImageLimits()).pixels for xmp in (XMP, b""))
    assert turned.equal(plain)


def test_orientation_in_exif_is_applied_though_metadata_is_broken() -> None:
    exif = oriented(6).tobytes()
    content = jpeg_with(segment(0xE1, b"Exif\0\0" + exif.removeprefix(b"Exif\0\0")), segment(0xE2, b"ICC_PROFILE\0"))
    assert decode_image(content, ImageLimits()).size == (48, 64)
    png = png_with(chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")), chunk(b"gAMA", b"\0"))
    assert decode_image(png, ImageLimits()).size == (48, 64)


def tags_of(*tags: tuple[int, int, int, bytes], order: str = "<", behind: bytes = b"") -> bytes:
    """EXIF with these tags: number, kind, count, value or place."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    return head + b"".join(struct.pack(order + "HHI", *tag[:3]) + tag[3].ljust(4, b"\0") for tag in tags) + behind


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "letter"), [(1, "B"), (3, "H"), (4, "I"), (9, "i")])
def test_orientation_is_read_in_each_order_and_kind_of_number(order: str, kind: int, letter: str) -> None:
    six = struct.pack(order + letter, 6)
    assert orientation_in(tags_of((271, 2, 2, b"x"), (274, kind, 1, six), order=order)) == 6
    assert orientation_in(b"Exif\0\0" + tags_of((274, kind, 1, six), (274, kind, 1, bytes(4)), order=order)) == 6
    # More numbers than fit, which then lie behind the tags.
    place = struct.pack(order + "I", 22)
    assert orientation_in(tags_of((274, kind, 9, place), order=order, behind=six * 9)) == 6
    assert orientation_in(tags_of((274, kind, 1, struct.pack(order + letter, 9)), order=order)) == 1


def test_exif_that_is_cut_or_is_none_turns_nothing() -> None:
    whole = tags_of((271, 2, 2, b"x"), (274, 3, 9, struct.pack("<I", 34)), behind=b"\6\0")
    assert orientation_in(whole) == 6
    for length in range(len(whole)):
        assert orientation_in(whole[:length]) == 1
    for other in (b"II+\0" + whole[4:], b"JJ" + whole[2:], tags_of((274, 2, 1, b"6")), tags_of((274, 3, 0, b"\6"))):
        assert orientation_in(other) == 1


@pytest.mark.parametrize("format_", ["PNG", "WEBP"])
def test_of_exif_nothing_but_the_orientation_is_read(format_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow takes a second and more, with Python's lock, for what two megabytes of EXIF can hold."""
    many = [(number, 2, 100, bytes(4)) for number in range(300, 60_000)]
    exif = tags_of((274, 3, 1, b"\6\0"), (282, 5, 100_000, b"\x40\0\0\0"), *many, behind=bytes(100))
    content = png_with(chunk(b"eXIf", exif)) if format_ == "PNG" else encoded(noise(), format_, exif=b"Exif\0\0" + exif)

    def load(*_: object) -> None:
        pytest.fail("all tags are read")

    monkeypatch.setattr(TiffImagePlugin.ImageFileDirectory_v2, "load", load)
    assert decode_image(content, ImageLimits()).size == (48, 64)
