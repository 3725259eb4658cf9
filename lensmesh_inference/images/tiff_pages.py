"""The pages of a TIFF: which of several is the image, and what it says of its samples.

Of a page only the tags that change pixels are read. From these a file of one page is written that any decoder
understands, whatever metadata, thumbnails and masks the original holds.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lensmesh_inference.images.tiff_directories import SUB_PAGES_CHOSEN_FROM

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES, PLANAR = 273, 274, 277, 278, 279, 284
PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 317, 322, 323, 324, 325
COLOUR_MAP, SUBSAMPLING = 320, 530
EXTRA_SAMPLES, SAMPLE_FORMAT, LEAST_SAMPLE, MOST_SAMPLE, MAX_SAMPLE, NO_DATA = 338, 339, 340, 341, 281, 42113
_SUBFILE, _OLD_SUBFILE, _MAKE, _SUB_PAGES, _CR2_SLICES, _DNG_VERSION = 254, 255, 271, 330, 50752, 50706
_CFA_TAGS: Final = (33421, 33422)
_CFA, _LINEAR_RAW, _MASK = 32803, 34892, 4
_OLD_JPEG: Final = 6
# Tags that say how pixels are stored: those above, and of fax, palette, inks, JPEG and YCbCr.
_PIXEL_TAGS: Final = frozenset(
    {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP}
    | {STRIP_BYTES, PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES, EXTRA_SAMPLES, SAMPLE_FORMAT}
    | {292, 293, COLOUR_MAP, 332, 334, 347, 529, SUBSAMPLING, 531, 532, *range(512, 522)}
)
_ABOUT_PIXELS: Final = frozenset({LEAST_SAMPLE, MOST_SAMPLE, MAX_SAMPLE, NO_DATA})
_ABOUT_PAGES: Final = frozenset({_SUBFILE, _OLD_SUBFILE, _MAKE, _SUB_PAGES, _CR2_SLICES, _DNG_VERSION, *_CFA_TAGS})
_READ: Final = _PIXEL_TAGS | _ABOUT_PIXELS | _ABOUT_PAGES
# By the kind of a value: struct's letter and how many of them are one value.
_KINDS: Final[Mapping[int, tuple[str, int]]] = {
    1: ("B", 1),
    2: ("c", 1),
    3: ("H", 1),
    4: ("I", 1),
    5: ("I", 2),
    6: ("b", 1),
    7: ("B", 1),
    8: ("h", 1),
    9: ("i", 1),
    10: ("i", 2),
    11: ("f", 1),
    12: ("d", 1),
    13: ("I", 1),
    16: ("Q", 1),
    17: ("q", 1),
}
_MOST_PAGES: Final = 64
_MOST_TAGS: Final = 20_000
_MOST_SUB_PAGES: Final = 16
_CAMERAS: Final = (
    "canon",
    "nikon",
    "sony",
    "pentax",
    "ricoh",
    "olympus",
    "om digital",
    "panasonic",
    "leica",
    "fujifilm",
)
_CAMERAS_TOO: Final = (
    "samsung",
    "hasselblad",
    "phase one",
    "leaf",
    "mamiya",
    "kodak",
    "eastman kodak",
    "minolta",
    "konica",
)
_NAMES: Final = {"canon": "CR2", "nikon": "NEF", "sony": "ARW", "pentax": "PEF", "samsung": "SRW", "hasselblad": "3FR"}
# Behind the header of such a file; the sensor's numbers are in no page of it.
_PHASE_ONE: Final = re.compile(rb"IIII.waR|MMMMRaw", re.DOTALL)


@dataclass(frozen=True)
class Tag:
    """Values of one kind, as TIFF numbers kinds. Of a rational, numerator and denominator are two values."""

    kind: int
    values: tuple[Any, ...]


class TiffPage(dict[int, Tag]):
    """The tags of one page that are of interest here, by their numbers."""

    def first(self, tag: int, default: int) -> int:
        """Return the first value of a tag, as an integer."""
        values = self[tag].values if tag in self else ()
        return int(values[0]) if values and isinstance(values[0], int | float) else default

    def numbers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return the values of a tag that holds integers."""
        values = self[tag].values if tag in self else default
        return values if all(isinstance(value, int) for value in values) else default

    @property
    def samples(self) -> int:
        """The number of samples of a pixel."""
        return self.first(SAMPLES, 1)

    @property
    def bits(self) -> tuple[int, ...]:
        """The bits of each sample. A single number in the file stands for all samples."""
        bits = self.numbers(BITS, (1,))[: max(1, self.samples)]
        return bits * self.samples if len(bits) == 1 else bits

    @property
    def is_reduced(self) -> bool:
        """True where the page says that it is a smaller version of another one."""
        return bool(self.first(_SUBFILE, 0) & 1) or self.first(_OLD_SUBFILE, 1) == 2

    @property
    def is_mask(self) -> bool:
        """True where the page says that it is another one's mask."""
        return bool(self.first(_SUBFILE, 0) & 4) or self.first(PHOTOMETRIC, 0) == _MASK


class Reader:
    """A reader of the directories of one file."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._order = "<" if content.startswith(b"II") else ">"
        self._big = content[2:4] in (b"+\0", b"\0+")
        self._tags = 0

    def pages(self) -> Iterator[TiffPage]:
        """Yield the pages in the file's order, up to 64 of them. Pages behind damage are left out."""
        at, seen = self._number("Q" if self._big else "I", 8 if self._big else 4), set[int]()
        while at and at not in seen and len(seen) < _MOST_PAGES:
            seen.add(at)
            page, at = self.page(at)
            if page is None:
                return
            yield page

    def page(self, at: int) -> tuple[TiffPage | None, int]:
        """Read the page whose directory begins at `at`.

        Return it, None if there is none, and where the next directory begins.
        """
        count = self._number("Q" if self._big else "H", at)
        start, size = at + (8 if self._big else 2), 20 if self._big else 12
        if not count or start + count * size > len(self._content) or self._tags + count > _MOST_TAGS:
            return None, 0
        self._tags += count
        page = TiffPage()
        for place in range(start, start + count * size, size):
            self._read_tag(place, page)
        return page, self._number("Q" if self._big else "I", start + count * size)

    def _read_tag(self, place: int, page: TiffPage) -> None:
        letter, inline = ("Q", 8) if self._big else ("I", 4)
        number, kind, count = struct.unpack_from(f"{self._order}HH{letter}", self._content, place)
        if number not in _READ or number in page or kind not in _KINDS or not count:
            return
        what, each = _KINDS[kind]
        size = struct.calcsize(what) * each * count
        at = place + 4 + inline if size <= inline else self._number(letter, place + 4 + inline)
        if at + size <= len(self._content):
            values = struct.unpack_from(f"{self._order}{count * each}{what}", self._content, at)
            page[number] = Tag(kind, (b"".join(values),) if what == "c" else values)

    def _number(self, letter: str, at: int) -> int:
        """Read one number of the file. It is 0 behind the file's end."""
        size = struct.calcsize(self._order + letter)
        return struct.unpack_from(self._order + letter, self._content, at)[0] if at + size <= len(self._content) else 0


def choose_page(content: bytes) -> TiffPage | None:
    """Return the page that is the file's image. None: there is no page.

    It is the first page that declares itself neither reduced nor a mask. Where there is none, it is such a page below
    the first page that is no mask, which is then its thumbnail; else it is that first page.
    """
    reader, second = Reader(content), None
    for page in reader.pages():
        if page.is_mask or (second is not None and page.is_reduced):
            continue
        if not page.is_reduced:
            return page
        second = page
    for at in second.numbers(_SUB_PAGES)[:SUB_PAGES_CHOSEN_FROM] if second is not None else ():
        below = reader.page(at)[0]
        if below is not None and below.first(WIDTH, 0) and not (below.is_mask or below.is_reduced):
            return below
    return second


def camera_raw(content: bytes) -> str | None:
    """Name the camera raw format of a file that is built as a TIFF: "NEF", or "of a camera".

    Return None for other files.

    Its pages are a thumbnail or a preview and the sensor's own numbers, which are no image yet.
    """
    if _PHASE_ONE.match(content, 8):
        return "IIQ"
    reader = Reader(content)
    maker, raw, name = "", content[8:10] == b"CR", "CR2" if content[8:10] == b"CR" else ""
    for number, page in enumerate(reader.pages()):
        make = page[_MAKE].values[0] if _MAKE in page else b""
        maker = maker or (make.decode("latin-1").strip("\0 ").lower() if isinstance(make, bytes) else "")
        below = [reader.page(at)[0] for at in page.numbers(_SUB_PAGES)[:_MOST_SUB_PAGES]]
        for one in (page, *below):
            if one is not None and (
                one.first(PHOTOMETRIC, 0) in (_CFA, _LINEAR_RAW) or not one.keys().isdisjoint(_CFA_TAGS)
            ):
                raw = True
        if _DNG_VERSION in page:
            raw, name = True, "DNG"
        if _CR2_SLICES in page:
            raw, name = True, "CR2"
        # A camera's preview, coded as no other writer does today.
        if not number and page.first(COMPRESSION, 1) == _OLD_JPEG and maker.startswith(_CAMERAS + _CAMERAS_TOO):
            raw = True
    if not raw:
        return None
    return name or next((one for start, one in _NAMES.items() if maker.startswith(start)), "of a camera")


def single_page(content: bytes, page: Mapping[int, Tag]) -> bytes:
    """Return a file of this page alone, without metadata. Its pixels stay where they are in `content`.

    Raises ``struct.error`` where a value fits no field.
    """
    out = bytearray(content)
    return finish(out, {number: tag for number, tag in page.items() if number in _PIXEL_TAGS})


def finish(out: bytearray, tags: Mapping[int, Tag]) -> bytes:
    """Write `tags` behind the pixels in `out`, whose first eight bytes become the header."""
    out.extend(b"\0" * (len(out) & 1))
    entries = b""
    for number, tag in sorted(tags.items()):
        kind = {16: 4, 17: 9}.get(tag.kind, tag.kind)
        letter, each = _KINDS[kind]
        data = struct.pack(f"<{len(tag.values)}{letter}", *tag.values)
        if len(data) > 4:
            at = len(out)
            out += data + b"\0" * (len(data) & 1)
            data = struct.pack("<I", at)
        entries += struct.pack("<HHI", number, kind, len(tag.values) // each) + data.ljust(4, b"\0")
    out[:8] = b"II*\0" + struct.pack("<I", len(out))
    out += struct.pack("<H", len(tags)) + entries + bytes(4)
    return bytes(out)
