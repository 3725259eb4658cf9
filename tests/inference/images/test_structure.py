"""A look at an image's structure: what nobody makes is refused at once, what is made honestly passes, and is usual."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import time
from collections.abc import Callable

import pytest
from PIL import Image

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images.limits import FORMATS, ImageLimits
from lensmesh_inference.images.structure import look
from tests.inference.images.encoded import encoded, noise, oriented
from tests.support.hostile_images import scan_bomb, segment, tiff

LARGEST = ImageLimits().max_bytes
JPEG, PNG, GIF, WEBP = (encoded(noise(), kind) for kind in ("JPEG", "PNG", "GIF", "WEBP"))


def filled(head: bytes, piece: bytes, tail: bytes = b"") -> Callable[[], bytes]:
    """A file of the largest size, made of one piece again and again."""
    return lambda: head + piece * ((LARGEST - len(head) - len(tail)) // len(piece)) + tail


HOSTILE: dict[str, Callable[[], bytes]] = {
    "comments": filled(JPEG[:2], b"\xff\xfe\0\2", JPEG[2:]),
    "markers without length": filled(JPEG[:2], b"\xff\x01", JPEG[2:]),
    "fill": filled(JPEG[:2], b"\xff", JPEG[2:]),
    "stuffed fill": filled(JPEG[:2], b"\xff\0", JPEG[2:]),
    "padding": filled(JPEG[:2], b"\0", JPEG[2:]),
    "empty scans": filled(JPEG[:2], segment(0xDA, b"")),
    "scans": lambda: scan_bomb(199, 4000),
    "scans of a large image": lambda: scan_bomb(40, 7000),
    "chunks": filled(PNG[:33], bytes(4) + b"teSt" + bytes(4)),
    "empty pixels": filled(PNG[:33], bytes(4) + b"IDAT" + bytes(4)),
    "webp chunks": filled(WEBP[:12], b"XMP " + bytes(4)),
    "comment blocks": filled(GIF[:13], b"\x21\xfe\1a\0"),
    "sub-blocks": filled(GIF[:13] + b"\x21\xfe", b"\1a"),
    "bytes of no block": filled(GIF[:13], b"\0"),
    "tags": lambda: tiff([(number, 3, 1, 1) for number in range(20_001)]),
    "strips": lambda: tiff([(256, 3, 1, 9), (257, 3, 1, 9), (273, 4, 5_000_000, 8)]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_encoder_makes_is_refused_before_decoding(name: str) -> None:
    content = HOSTILE[name]()
    began = time.thread_time()
    with pytest.raises(InvalidInput, match=r"images\[3\] is built of more than \d+ ") as caught:
        look(content, "images[3]")
    # Decoders took 10 to 67 seconds for them.
    assert time.thread_time() - began < 0.2
    assert caught.value.reason is Reason.IMAGE_TOO_COMPLEX
    assert caught.value.violations[0].field == "images[3]"
    assert set(caught.value.metadata) == {"limit", "what"}


@pytest.mark.parametrize("piece", [b"\xff\0", b"\xff\xd3", b"\xff", b"\5"], ids=repr)
def test_compressed_data_of_any_bytes_is_passed_over_quickly(piece: bytes) -> None:
    content = filled(JPEG[:-2], piece)()
    began = time.thread_time()
    assert look(content).usual
    assert time.thread_time() - began < 0.2


def test_noise_behind_a_known_beginning_is_no_error_of_the_look() -> None:
    chance = random.Random(5)
    for head in (b"\xff\xd8", PNG[:8], WEBP[:12], b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"II+\0", b""):
        for length in (0, 1, 5, 30, 3000):
            with contextlib.suppress(InvalidInput):
                look(head + chance.randbytes(length))


@pytest.mark.parametrize("kind", FORMATS)
def test_no_format_is_decoded_without_a_look(kind: str) -> None:
    assert look(encoded(noise(), kind)).container == kind, "what nobody looks at counts as cheap"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
def test_what_encoders_make_is_usual_and_its_size_is_known(kind: str) -> None:
    structure = look(encoded(noise(size=(321, 123)), kind))
    assert (structure.container, structure.width, structure.height) == (kind, 321, 123)
    assert structure.usual


@pytest.mark.parametrize("kind", ["TIFF", "BMP"])
def test_what_proves_no_cost_is_unusual(kind: str) -> None:
    structure = look(encoded(noise(size=(321, 123)), kind))
    assert (structure.container, structure.width, structure.height) == (kind, 321, 123)
    assert not structure.usual


def test_a_lossless_and_an_extended_webp_tell_their_size() -> None:
    assert look(encoded(noise(size=(321, 123)), "WEBP", lossless=True)).pixels == 321 * 123
    assert look(encoded(noise("RGBA", size=(321, 123)), "WEBP", exif=b"Exif\0\0II*\0")).pixels == 321 * 123


def test_the_largest_page_of_a_tiff_counts() -> None:
    file = io.BytesIO()
    small, large = Image.new("L", (20, 10)), Image.new("L", (300, 200))
    small.save(file, "TIFF", save_all=True, append_images=[large, small])
    structure = look(file.getvalue())
    assert (structure.pixels, structure.pieces["pages"]) == (300 * 200, 3)


def test_a_page_below_a_reduced_one_counts() -> None:
    """It may be the one that is decoded."""
    below = struct.pack("<HHHIIHHII", 2, 256, 4, 1, 700, 257, 4, 1, 500) + bytes(4)
    pages = [(254, 4, 1, 1), (256, 4, 1, 70), (257, 4, 1, 50), (330, 4, 1, 14 + 12 * 4)]
    assert look(tiff(pages, below)).pixels == 700 * 500
    assert look(tiff([(254, 4, 1, 0), *pages[1:]], below)).pixels == 70 * 50
    # Cut, or not there.
    assert look(tiff(pages, below[:20])).pixels == 70 * 50
    assert look(tiff(pages)).pixels == 70 * 50


def test_a_loop_of_directories_ends() -> None:
    loop = b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 256, 3, 1, 7, 8)
    assert look(loop).pieces["pages"] == 1


def test_hundreds_of_segments_of_profiles_and_depth_maps_pass() -> None:
    profile = b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes([part, 255]) + bytes(9000)) for part in range(1, 256))
    depth = b"".join(segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(60_000)) for _ in range(200))
    assert look(JPEG[:2] + profile + JPEG[2:]).usual
    assert not look(JPEG[:2] + profile + depth + JPEG[2:]).usual


def test_exif_in_several_segments_is_unusual() -> None:
    """It fits into one; Pillow puts them together, and reads all of it with Python's lock."""
    exif = segment(0xE1, b"Exif\0\0II*\0" + bytes(60_000))
    assert look(JPEG[:2] + exif + JPEG[2:]).usual
    assert not look(JPEG[:2] + exif * 2 + JPEG[2:]).usual


def header(width: int, height: int, factors: bytes) -> bytes:
    """The start of frame of a progressive JPEG in three colours."""
    body = struct.pack(">BHHB", 8, height, width, 3)
    return segment(0xC2, body + b"".join(bytes([1 + number, factor, 0]) for number, factor in enumerate(factors)))


@pytest.mark.parametrize(("factors", "usual"), [(b"\x11\x11\x11", False), (b"\x22\x11\x11", False)])
def test_ten_scans_of_50_megapixels_pass(factors: bytes, usual: bool) -> None:
    scans = segment(0xDA, bytes([3, 1, 0, 2, 0, 3, 0, 0, 0, 0])) * 2
    scans += b"".join(segment(0xDA, bytes([1, colour, 0, 1, 5, 0])) for colour in (1, 3, 2, 1, 1, 3, 2, 1))
    structure = look(b"\xff\xd8" + header(8160, 6120, factors) + scans + b"\xff\xd9")
    assert structure.pieces["scans"] == 10
    assert structure.usual is usual
    # What the decoder keeps of a progressive image: two bytes for each sample.
    assert structure.working_bytes_per_pixel == (6 if factors[0] == 0x11 else 3)


def test_what_lies_behind_the_image_does_not_count() -> None:
    assert look(JPEG + JPEG * 700 + scan_bomb(40, 7000)).usual
    assert look(PNG + (bytes(4) + b"teSt" + bytes(4)) * 30_000).usual
    assert look(GIF + bytes(100_000)).usual


def test_fill_between_segments_may_be_there() -> None:
    assert look(JPEG[:2] + b"\xff" * 300 + JPEG[2:]).usual


def test_a_jpeg_without_exif_needs_no_second_look_for_its_size() -> None:
    assert look(JPEG).plain
    assert look(encoded(noise("L"), "JPEG", progressive=True)).plain
    assert not look(encoded(noise("CMYK"), "JPEG")).plain
    assert not look(encoded(noise(), "JPEG", exif=oriented(6))).plain
    # Two frames: which of them counts is the decoder's to say.
    frame = JPEG.index(b"\xff\xc0")
    assert not look(JPEG[:frame] + JPEG[frame : frame + 19] + JPEG[frame:]).plain
    assert not look(JPEG[:frame] + JPEG[frame:].replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c", 1)).plain


def test_a_look_tells_whether_all_scans_are_there() -> None:
    progressive = encoded(noise(), "JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    assert look(progressive).complete
    assert look(progressive[:last] + b"\xff\xd9").complete is False
    assert look(JPEG).complete
