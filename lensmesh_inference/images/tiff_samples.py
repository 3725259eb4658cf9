"""The samples of a TIFF as they are stored, for depths and kinds of numbers that Pillow misreads or does not know.

libtiff, in Pillow, unpacks strips and tiles as if they were bytes, some megabytes at a time. What the bytes mean (how
many bits, which order, which plane, differences to the sample before) is defined by TIFF 6.0 and read here with numpy.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from lensmesh_inference.images import tiff_pages as tags
from lensmesh_inference.images.tiff_pages import Tag, TiffPage, finish

Samples: TypeAlias = npt.NDArray[Any]

# None, LZW, Deflate (twice), PackBits, LZMA, Zstandard: codings of bytes, whatever these mean.
CODINGS: Final = frozenset({1, 5, 8, 32946, 32773, 34925, 50000})
MOST_SEGMENT_BYTES: Final = 256 * 1024 * 1024
_GROUP_BYTES: Final = 8 * 1024 * 1024
_KIND_OF_FORMAT: Final = {1: "u", 2: "i", 3: "f", 4: "u"}
_WHOLE_BITS: Final = (8, 16, 32, 64)
_DIFFERENCES, _FLOAT_DIFFERENCES = 2, 3
_MOST_PACKED_BITS: Final = 32
_YCBCR: Final = 6


@dataclass(frozen=True)
class Part:
    """Decoded samples of shape (height, width, channels), and where they belong: row, column, first channel."""

    samples: Samples
    top: int
    left: int
    channel: int


class TiffSegment(NamedTuple):
    """A strip or tile: its place in the file, its size in pixels, and the least number of bytes that it unpacks to."""

    number: int
    at: int
    length: int
    width: int
    height: int
    least: int


class SampleReader:
    """A reader of one page's samples, part by part. Its `problem` says why it cannot read them, or is empty."""

    def __init__(self, content: bytes, page: TiffPage) -> None:
        self._content = content
        self._page = page
        self.width, self.height = page.first(tags.WIDTH, 0), page.first(tags.HEIGHT, 0)
        self.channels = page.samples
        self.bits = page.bits[0]
        self.kind = _KIND_OF_FORMAT.get(page.first(tags.SAMPLE_FORMAT, 1), "")
        self._planes = self.channels if page.first(tags.PLANAR, 1) == 2 else 1
        self._tiled = tags.TILE_OFFSETS in page
        across, down = (tags.TILE_WIDTH, tags.TILE_HEIGHT) if self._tiled else (tags.WIDTH, tags.ROWS_PER_STRIP)
        self._across = page.first(across, 0)
        self._down = min(page.first(down, self.height), self.height) if not self._tiled else page.first(down, 0)
        self._offsets = page.numbers(tags.TILE_OFFSETS if self._tiled else tags.STRIP_OFFSETS)
        self._lengths = page.numbers(tags.TILE_BYTES if self._tiled else tags.STRIP_BYTES)
        self._predictor = page.first(tags.PREDICTOR, 1) if page.first(tags.COMPRESSION, 1) != 1 else 1
        self._row_bytes = (self._across * self.channels // self._planes * self.bits + 7) // 8

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the samples, in the machine's byte order."""
        if self.bits in _WHOLE_BITS:
            return np.dtype(f"{self.kind}{self.bits // 8}")
        return np.dtype(f"{self.kind}{2 if self.bits <= 16 else 4}")

    def problem(self) -> str:
        """Say why the page cannot be read. Return "" where it can."""
        if self._page.first(tags.COMPRESSION, 1) not in CODINGS:
            return f"compression {self._page.first(tags.COMPRESSION, 1)}"
        if not self.kind or len(set(self._page.numbers(tags.SAMPLE_FORMAT, (1,)))) > 1:
            return "complex or mixed numbers"
        if len(set(self._page.bits)) > 1:
            return "samples of different depths"
        whole = self.bits in _WHOLE_BITS and (self.kind != "f" or self.bits > 8)
        if not whole and (self.kind != "u" or self.bits > _MOST_PACKED_BITS or self._predictor != 1):
            return "this depth"
        if self._predictor not in (1, _DIFFERENCES, _FLOAT_DIFFERENCES):
            return f"predictor {self._predictor}"
        return ""

    def is_complete(self) -> bool:
        """Tell whether the page names a place for each of its strips or tiles."""
        if min(self._across, self._down) < 1:
            return False
        count = -(-self.width // self._across) * -(-self.height // self._down) * self._planes
        return len(self._lengths) >= len(self._offsets[:count]) == count

    @property
    def is_single(self) -> bool:
        """True where the page is one strip or tile."""
        return len(self._offsets) == 1

    def segments(self, channels: int) -> Iterator[TiffSegment]:
        """Yield all strips or tiles that hold the first `channels`."""
        columns, rows = -(-self.width // self._across), -(-self.height // self._down)
        for plane in range(min(self._planes, channels)):
            for place in range(columns * rows):
                number, height = place + plane * columns * rows, self._rows_of(place // columns)
                least = self._least_bytes(height)
                yield TiffSegment(number, self._offsets[number], self._lengths[number], self._across, height, least)

    def _least_bytes(self, height: int) -> int:
        """Return the least number of bytes that so many rows unpack to."""
        if self._page.first(tags.PHOTOMETRIC, 0) == _YCBCR and self._planes == 1 and self.channels == 3:
            across, down = (max(1, one) for one in self._page.numbers(tags.SUBSAMPLING, (2, 2))[:2])
            return -(-self._across // across) * -(-height // down) * (across * down + 2)
        return (self._across * self.channels // self._planes * min(self._page.bits) + 7) // 8 * height

    def segment_bytes(self) -> int:
        """Return the unpacked bytes of one strip or tile."""
        return self._row_bytes * self._down

    def parts(self, channels: int) -> Iterator[Part]:
        """Yield all parts that hold the first `channels`.

        Raises what Pillow raises for damage, ``EOFError`` for a cut file.
        """
        columns, rows = -(-self.width // self._across), -(-self.height // self._down)
        group = max(1, _GROUP_BYTES // max(1, self.segment_bytes()))
        for plane in range(min(self._planes, channels)):
            for start in range(0, columns * rows, group):
                places = range(start, min(start + group, columns * rows))
                heights = [self._rows_of(place // columns) for place in places]
                raw = self._unpack([place + plane * columns * rows for place in places], heights)
                row = 0
                for place, height in zip(places, heights, strict=True):
                    samples = self._samples(raw[row : row + height])
                    row += height
                    top, left = place // columns * self._down, place % columns * self._across
                    yield Part(samples[: self.height - top, : self.width - left], top, left, plane)

    def _rows_of(self, row: int) -> int:
        return self._down if self._tiled else min(self._down, self.height - row * self._down)

    def _unpack(self, places: list[int], heights: list[int]) -> npt.NDArray[np.uint8]:
        """Unpack strips or tiles to rows of bytes, one below the other."""
        out, offsets, lengths = bytearray(8), [], []
        for place in places:
            at, length = self._offsets[place], self._lengths[place]
            if at + length > len(self._content):
                raise EOFError
            offsets.append(len(out))
            lengths.append(length)
            out += self._content[at : at + length]
        rows = sum(heights)
        coding, fill = self._page.first(tags.COMPRESSION, 1), self._page.first(tags.FILL_ORDER, 1)
        numbers = {tags.WIDTH: [self._row_bytes], tags.HEIGHT: [rows], tags.BITS: [8], tags.COMPRESSION: [coding]}
        numbers |= {tags.PHOTOMETRIC: [1], tags.FILL_ORDER: [fill], tags.SAMPLES: [1]}
        numbers |= {tags.ROWS_PER_STRIP: [heights[0]], tags.STRIP_OFFSETS: offsets, tags.STRIP_BYTES: lengths}
        file = finish(out, {number: Tag(4, tuple(values)) for number, values in numbers.items()})
        with Image.open(io.BytesIO(file), formats=["TIFF"]) as image:
            image.load()
            return np.asarray(image)

    def _samples(self, raw: npt.NDArray[np.uint8]) -> Samples:
        """Convert rows of bytes to numbers of shape (rows, width of a strip or tile, channels)."""
        channels = self.channels // self._planes
        order: Literal["<", ">"] = "<" if self._content.startswith(b"II") else ">"
        if self.bits not in _WHOLE_BITS:
            return self._packed(raw, channels)
        dtype = self.dtype.newbyteorder(order)
        if self._predictor == _FLOAT_DIFFERENCES:
            raw, dtype = _undo_float_differences(raw, channels, self.bits // 8), self.dtype.newbyteorder(">")
        numbers = np.ascontiguousarray(raw).view(dtype).astype(self.dtype, copy=False)
        numbers = numbers.reshape(len(raw), -1, channels)
        if self._predictor == _DIFFERENCES:
            # Differences wrap around, for signed and real numbers too.
            whole = numbers.view(f"u{self.bits // 8}")
            numbers = np.cumsum(whole, axis=1, dtype=whole.dtype).view(self.dtype)
        return numbers

    def _packed(self, raw: npt.NDArray[np.uint8], channels: int) -> Samples:
        """Read numbers whose bits do not fill whole bytes, the highest bit first. Each row begins at a byte."""
        count = self._across * channels
        out = np.empty((len(raw), count), self.dtype)
        for row, line in enumerate(raw):
            bits = np.unpackbits(line, count=count * self.bits).reshape(count, self.bits)
            numbers = np.zeros(count, self.dtype)
            for place in range(self.bits):
                numbers = numbers << 1 | bits[:, place]
            out[row] = numbers
        return out.reshape(len(raw), -1, channels)


def _undo_float_differences(raw: npt.NDArray[np.uint8], channels: int, size: int) -> npt.NDArray[np.uint8]:
    """Undo the floating point predictor of TIFF Technical Note 3.

    It stores bytes of equal weight together, the highest first, as differences.
    """
    rows = len(raw)
    sums = np.cumsum(raw.reshape(rows, -1, channels), axis=1, dtype=np.uint8)
    return np.ascontiguousarray(sums.reshape(rows, size, -1).swapaxes(1, 2)).reshape(rows, -1)
