"""An image that is not all there is refused, also where its file ends as a whole one does; one that is, is decoded."""

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
from lensmesh_inference.images.jpeg import decode_jpeg
from lensmesh_inference.images.jpeg_damage import essential, missing_scans
from lensmesh_inference.images.jpeg_segments import segments
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.pillow import decode_image
from lensmesh_inference.images.prepare import prepare
from lensmesh_inference.images.transform import Transform
from tests.inference.images.encoded import encoded, noise, photograph

LIMITS = ImageLimits()
END = b"\xff\xd9"
FILM = struct.pack(">I", 24) + b"ftypmp42\0\0\0\0mp42isom" + bytes(range(256)) * 8 + END
OPTIONS: dict[str, dict[str, Any]] = {
    "sequential": {},
    "progressive": {"progressive": True},
    "with restarts": {"restart_marker_blocks": 5},
}


def jpeg(size: tuple[int, int] = (160, 120), mode: str = "RGB", **options: Any) -> bytes:
    return encoded(photograph(1, size).convert(mode), "JPEG", quality=90, **options)


def reason_of(content: bytes) -> Reason:
    """Why an image is refused, the same for both ways to decode it."""
    with pytest.raises(InvalidInput) as caught:
        decode_image(content, LIMITS)
    with pytest.raises(InvalidInput) as prepared:
        prepare(content, Transform(32, 32, "squash", "bicubic"), LIMITS)
    assert (caught.value.reason, caught.value.message) == (prepared.value.reason, prepared.value.message)
    return caught.value.reason


def same(content: bytes, whole: bytes) -> bool:
    """Whether one file's pixels are those of the other."""
    return decode_image(content, LIMITS).tobytes() == decode_image(whole, LIMITS).tobytes()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_cut_jpeg_with_an_end_put_on(options: dict[str, Any], mode: str, share: float) -> None:
    content = jpeg(mode=mode, **options)
    cut = content[: int(len(content) * share)].rstrip(b"\xff")
    assert reason_of(cut) is Reason.IMAGE_TRUNCATED
    assert reason_of(cut + END) in (Reason.IMAGE_TRUNCATED, Reason.IMAGE_UNDECODABLE)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_some_of_all_scans(mode: str) -> None:
    """However many of the scans there are: without the last one it is not the image that was saved."""
    content = jpeg(mode=mode, progressive=True)
    starts = [one.start - 4 for one in segments(content) if one.marker == 0xDA]
    assert len(starts) >= 4
    for start in starts[1:]:
        assert missing_scans(content[:start] + END)
    for start in (starts[1], starts[-1]):
        assert reason_of(content[:start] + END) is Reason.IMAGE_TRUNCATED
    assert not missing_scans(content)


def test_a_colour_whose_scan_is_missing() -> None:
    """Not progressive, each colour in a scan of its own."""
    content = jpeg()
    start = next(one for one in segments(content) if one.marker == 0xDA)
    lone = b"\xff\xda\0\x08\1\1\0\0\x3f\0"
    assert missing_scans(content[: start.start - 4] + lone + content[start.stop :])


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_all_pixels_without_the_end_mark(options: dict[str, Any]) -> None:
    content = jpeg(**options)
    assert same(content[:-2], content)
    assert same(content[:-1], content)


@pytest.mark.parametrize("tail", [FILM, b"\0" * 4000, b"\xff", b"MotionPhoto_Data" + FILM])
def test_what_stands_behind_the_end(tail: bytes) -> None:
    """A motion photo is a JPEG with a film behind."""
    assert same(jpeg() + tail, jpeg())
    assert same(essential(jpeg() + tail), jpeg())


def test_a_damaged_motion_photo_is_damaged_and_not_cut() -> None:
    content = jpeg()
    middle = len(content) // 2
    damaged = content[:middle] + b"\xff\xc4\0\3\0" + content[middle + 5 :]
    for one in (damaged, damaged + FILM):
        assert reason_of(one) is Reason.IMAGE_UNDECODABLE


def test_a_jpeg_damaged_in_the_middle() -> None:
    """Whatever the decoder notices: here data is left over behind the last pixel."""
    content = bytearray(encoded(noise(size=(64, 64)), "JPEG", quality=95))
    content[len(content) // 2 : len(content) // 2 + 40] = b"\x11" * 40
    assert reason_of(bytes(content)) is Reason.IMAGE_UNDECODABLE


@pytest.mark.parametrize("extra", [b"\0" * 50, b"\xff" * 50, b"webcam", b"\0"])
def test_padding_before_the_end_mark(extra: bytes) -> None:
    assert same(jpeg()[:-2] + extra + END, jpeg())


def test_odd_scan_parameters_of_a_sequential_jpeg() -> None:
    """Some cameras leave them zero; libjpeg warns and ignores them."""
    content = bytearray(jpeg())
    scan = next(one for one in segments(bytes(content)) if one.marker == 0xDA)
    content[scan.stop - 3 : scan.stop] = b"\0\0\0"
    assert same(bytes(content), jpeg())


def test_rare_jpegs_are_named() -> None:
    for marker, name in ((0xC3, "lossless"), (0xC5, "hierarchical"), (0xCB, "lossless")):
        content = bytearray(jpeg())
        content[content.index(b"\xff\xc0") + 1] = marker
        assert reason_of(bytes(content)) is Reason.IMAGE_FORMAT_UNSUPPORTED
        with pytest.raises(InvalidInput, match=name):
            decode_image(bytes(content), LIMITS)
    content = bytearray(jpeg())
    content[content.index(b"\xff\xc0") + 4] = 12
    content[content.index(b"\xff\xc0") + 1] = 0xC1
    with pytest.raises(InvalidInput, match="12 bits") as caught:
        decode_image(bytes(content), LIMITS)
    assert caught.value.reason is Reason.IMAGE_FORMAT_UNSUPPORTED


@pytest.mark.parametrize("before", [b"", b"\xff\xe8\0\6abcd"])
@pytest.mark.parametrize("end", [b"", END])
def test_jpeg_ls_is_named(before: bytes, end: bytes) -> None:
    """It begins as any JPEG does."""
    frame = b"\xff\xf7\0\x0b\x08\0\x30\0\x40\1\1\x11\0"
    content = b"\xff\xd8" + before + frame + b"\xff\xda\0\x08\1\1\0\0\0\0" + bytes(range(1, 99)) * 9 + end
    assert reason_of(content) is Reason.IMAGE_FORMAT_UNSUPPORTED
    with pytest.raises(InvalidInput, match="JPEG-LS"):
        decode_image(content, LIMITS)


def png(raw: bytes, data: bytes | None = None, *, mode: str = "RGB") -> bytes:
    good = encoded(noise(mode))
    body = b"IDAT" + (zlib.compress(raw) if data is None else data)
    return good[:33] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + good[-12:]


def rows(count: int) -> bytes:
    return b"".join(b"\0" + np.asarray(noise())[row].tobytes() for row in range(count))


def test_a_png_whose_data_ends_early_as_if_it_were_whole() -> None:
    assert same(png(rows(48)), encoded(noise()))
    assert same(png(b"", zlib.compress(rows(48))[:-4]), encoded(noise())), "the checksum behind all pixels is missing"
    for count in (0, 1, 24, 47):
        assert reason_of(png(rows(count))) in (Reason.IMAGE_TRUNCATED, Reason.IMAGE_UNDECODABLE)
    packed = zlib.compress(rows(48))
    assert reason_of(png(b"", packed[: len(packed) // 2])) in (Reason.IMAGE_TRUNCATED, Reason.IMAGE_UNDECODABLE)
    black = encoded(Image.new("RGB", (64, 48)))
    assert same(black, black)


def test_an_interlaced_png_without_its_last_passes() -> None:
    black = b"\0" * 2 * 48 * (1 + 64 * 3)
    for count, whole in ((len(black), True), (48 * 64, False)):
        content = bytearray(png(black[:count]))
        content[28] = 1
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        if whole:
            assert same(bytes(content), encoded(Image.new("RGB", (64, 48))))
        else:
            assert reason_of(bytes(content)) is Reason.IMAGE_UNDECODABLE


def test_a_png_that_lacks_nothing_but_its_end() -> None:
    content = encoded(noise())
    for count in (12, 14, 16):
        assert same(content[:-count], content)


@pytest.mark.parametrize("lossless", [True, False])
def test_a_cut_webp_whose_lengths_were_put_right(lossless: bool) -> None:
    content = encoded(noise(), "WEBP", lossless=lossless)
    half = content[: len(content) // 4 * 2]
    mended = b"RIFF" + struct.pack("<I", len(half) - 8) + half[8:16] + struct.pack("<I", len(half) - 20) + half[20:]
    assert reason_of(mended) in (Reason.IMAGE_TRUNCATED, Reason.IMAGE_UNDECODABLE)
    assert same(content + b"behind", content)


def test_a_cut_gif_with_an_end_put_on() -> None:
    content = encoded(noise(), "GIF")
    assert reason_of(content[: len(content) // 2] + b"\0;") in (Reason.IMAGE_TRUNCATED, Reason.IMAGE_UNDECODABLE)
    assert same(content[:-1], content)


def test_a_cut_bmp_that_tells_its_new_length() -> None:
    content = encoded(noise(), "BMP")
    half = content[: len(content) // 2]
    assert reason_of(half[:2] + struct.pack("<I", len(half)) + half[6:]) is Reason.IMAGE_TRUNCATED


def test_bmp_layouts_are_named() -> None:
    pixels = np.dstack([np.asarray(noise()), np.zeros((48, 64), np.uint8)]).tobytes()
    head = struct.pack("<IiiHHIIiiII", 40, 64, 48, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    head += struct.pack("<3I", 0x3FF, 0xFFC00, 0x3FF00000)
    content = b"BM" + struct.pack("<IHHI", 14 + len(head) + len(pixels), 0, 0, 14 + len(head)) + head + pixels
    with pytest.raises(InvalidInput, match="a BMP with 32 bits and the masks") as caught:
        decode_image(content, LIMITS)
    assert caught.value.reason is Reason.IMAGE_FORMAT_UNSUPPORTED


def test_four_inks_are_decoded_once_and_at_a_part_of_their_size() -> None:
    content = jpeg(mode="CMYK")
    with Image.open(io.BytesIO(content)) as image:
        size, expected = image.size, np.asarray(image.convert("RGB")).astype(int)
    whole, part = decode_jpeg(content, size, (0, 0), inks=True, scaled=False)
    assert part == 1
    assert np.abs(whole - expected).max() <= 2
    small, part = decode_jpeg(content, size, (size[1] // 8, size[0] // 8), inks=True)
    assert part == 4
    assert small.shape == (-(-size[1] // 4), -(-size[0] // 4), 3)
