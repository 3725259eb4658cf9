"""The segments and scans of a JPEG, counted as libjpeg meets them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from lensmesh_inference.images.jpeg_scans import FRAMES, PROGRESSIVE, Coefficients
from lensmesh_inference.images.pieces import Structure, TooComplexError

# Profiles of 16 MB, extended XMP and depth maps of phones make some hundred segments of up to 64 KiB; a file of the
# largest size that is accepted, cut into full segments, has 320.
MOST_SEGMENTS: Final = 5_000
# The usual script of a progressive JPEG has 10 scans, optimizers search among some twenty; a scan is a few bytes at
# least, and makes the decoder visit each block of the image.
MOST_SCANS: Final = 200
# Samples that all scans together visit: of 50 megapixels in ten scans without subsampling 700 million, optimized ones a
# thousand. A million costs a millisecond.
MOST_SCANNED_PIXELS: Final = 1_500_000_000
# Bytes between segments. The standard allows any number before each marker; a few align the segments of some writers.
MOST_FILL_BYTES: Final = 64 * 1024

_USUAL_SEGMENTS: Final = 400
_USUAL_SEGMENT_BYTES: Final = 4 * 1024 * 1024
# Photoshop's resources are read by Pillow in a loop, one by one.
_USUAL_RESOURCE_BYTES: Final = 256 * 1024
_USUAL_FILL_BYTES: Final = 1024
# Two tenths of a second.
_USUAL_SCANNED_PIXELS: Final = 200_000_000
# Markers that no length follows.
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xDA)})
_SCAN, _END, _RESOURCES = 0xDA, 0xD9, 0xED
# EXIF, among others.
_METADATA: Final = 0xE1
_EXIF_MARK: Final = b"Exif\0\0"
# EXIF fits into one segment. Pillow puts several together, and reads some microseconds a tag and number in it.
_USUAL_EXIFS: Final = 1
# Frames in Huffman coding, sequential or progressive.
# What ends such a scan early looks like more of it: its decoder makes pixels of nothing, and warns of nothing.
_ARITHMETIC: Final = frozenset({0xC9, 0xCA})
_COMMON: Final = frozenset({0xC0, 0xC1, 0xC2})
_BITS: Final = 8
# Looked at first, and doubled as long as no marker is found; what is made of the largest stays in a processor's cache.
_FIRST_BLOCK: Final = 8 * 1024
_LARGEST_BLOCK: Final = 128 * 1024


class JpegSegment(NamedTuple):
    """A marker and what follows it. `content[start:stop]` are its bytes behind the length.

    `fill` is the number of bytes before the marker that belong to nothing.
    """

    marker: int
    start: int
    stop: int
    fill: int = 0


class _Frame(NamedTuple):
    """The content of a start of frame."""

    width: int
    height: int
    # Of each component by its id: its samples for each pixel.
    shares: Mapping[int, float]
    progressive: bool
    # Of 8 bits, and in a coding that every decoder knows.
    common: bool

    def scanned(self, body: bytes) -> float:
        """Return how many samples a scan with this header visits."""
        names = body[1 : 1 + 2 * body[0] : 2] if body else b""
        return self.width * self.height * sum([self.shares.get(name, 0) for name in names])


_NO_FRAME: Final = _Frame(0, 0, {}, progressive=False, common=False)


def segments(content: bytes) -> Iterator[JpegSegment]:
    """Yield all segments up to the end of the image or of the file. What is behind the image's end is not looked at.

    The compressed data behind each start of scan (0xDA) is skipped.
    """
    data = np.frombuffer(content, np.uint8)
    last, at, in_scan, scan_block = len(content) - 1, 2, False, _LARGEST_BLOCK
    while at < last:
        # Nearly every marker stands where the segment before it ends.
        if not in_scan and content[at] == 0xFF and 0 < content[at + 1] < 0xFF:
            found = at
        else:
            hit = _marker(data, at, scan_block if in_scan else _FIRST_BLOCK, in_scan=in_scan)
            if hit is None:
                return
            found = hit
        marker, start = content[found + 1], found + 2
        fill = 0 if in_scan else found - at
        if marker in _ALONE:
            yield JpegSegment(marker, start, start, fill)
            if marker == _END:
                return
            at, in_scan = start, False
            continue
        length = max(2, int.from_bytes(content[start : start + 2], "big"))
        yield JpegSegment(marker, start + 2, min(start + length, last + 1), fill)
        at, in_scan = start + length, marker == _SCAN
        if marker in PROGRESSIVE:
            # Many scans, most of them short.
            scan_block = _FIRST_BLOCK


def _marker(data: npt.NDArray[np.uint8], at: int, size: int, *, in_scan: bool) -> int | None:
    """Find the 0xFF of the next marker that no other 0xFF follows.

    Inside of a scan only markers that end the scan count.

    The first `size` bytes are searched first.
    """
    while at < len(data) - 1:
        starts, codes = data[at : at + size], data[at + 1 : at + size + 1]
        # Three passes for compressed data, whatever it holds; the others where it has restart markers or fill bytes.
        ends = codes != 0
        ends &= starts[: len(codes)] == 0xFF
        first = int(ends.argmax())
        if ends[first]:
            if _ends(int(codes[first]), in_scan=in_scan):
                return at + first
            ends &= codes != 0xFF
            if in_scan:
                ends &= (codes & 0xF8) != 0xD0
            first = int(ends.argmax())
            if ends[first]:
                return at + first
        at += size
        size = min(2 * size, _LARGEST_BLOCK)
    return None


def _ends(code: int, *, in_scan: bool) -> bool:
    """Tell whether the byte behind 0xFF makes it a marker. Inside of a scan only markers that end the scan count."""
    return code not in (0, 0xFF) and not (in_scan and 0xD0 <= code <= 0xD7)


def walk(content: bytes) -> Structure:
    """Count the pieces of a JPEG. Raises ``TooComplexError``."""
    # Written out: every image that is decoded pays for it.
    count = scans = fill = total = resources = frames = exifs = 0
    frame, coefficients, scanned, plain, refused = _NO_FRAME, Coefficients(), 0.0, True, ""
    for marker, start, stop, unused in segments(content):
        count += 1
        fill += unused
        total += stop - start
        if marker == _SCAN:
            body = content[start:stop]
            scans += 1
            coefficients.scan(body)
            scanned += frame.scanned(body)
        elif marker in FRAMES:
            body = content[start:stop]
            frame = _read_frame(marker, body)
            coefficients.frame(marker, body)
            frames += 1
            plain = plain and not scans
            if marker in _ARITHMETIC:
                refused = "a JPEG with arithmetic coding"
        elif marker == _METADATA:
            plain = False
            exifs += content.startswith(_EXIF_MARK, start)
        elif marker == _RESOURCES:
            resources += stop - start
        if count > MOST_SEGMENTS or fill > MOST_FILL_BYTES or scans > MOST_SCANS or scanned > MOST_SCANNED_PIXELS:
            _check(count, fill, scans, scanned)
    usual = (
        count <= _USUAL_SEGMENTS
        and total <= _USUAL_SEGMENT_BYTES
        and resources <= _USUAL_RESOURCE_BYTES
        and exifs <= _USUAL_EXIFS
        and fill <= _USUAL_FILL_BYTES
        and scanned <= _USUAL_SCANNED_PIXELS
    )
    channels = len(frame.shares)
    return Structure(
        "JPEG",
        frame.width,
        frame.height,
        # Pillow keeps colours in four bytes.
        1 if channels == 1 else 4,
        2 * sum(frame.shares.values()) if frame.progressive or scans > 1 else 0,
        usual=usual,
        channels=channels,
        complete=not coefficients.missing,
        plain=plain and frames == 1 and frame.common and channels in (1, 3),
        refused=refused,
        pieces={"segments": count, "scans": scans},
    )


def _check(count: int, fill: int, scans: int, scanned: float) -> None:
    """Raise ``TooComplexError`` for more pieces than an image needs. A single scan may visit any number of samples."""
    if count > MOST_SEGMENTS:
        raise TooComplexError("segments", MOST_SEGMENTS)
    if fill > MOST_FILL_BYTES:
        raise TooComplexError("bytes between segments", MOST_FILL_BYTES)
    if scans > MOST_SCANS:
        raise TooComplexError("scans", MOST_SCANS)
    if scans > 1:
        raise TooComplexError("megapixels in its scans together", MOST_SCANNED_PIXELS // 1_000_000)


def _read_frame(marker: int, body: bytes) -> _Frame:
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    names, factors = body[6:-2:3], body[7:-1:3]
    widest = max([one >> 4 for one in factors], default=1) or 1
    highest = max([one & 15 for one in factors], default=1) or 1
    whole = widest * highest
    shares = {name: (one >> 4) * (one & 15) / whole for name, one in zip(names, factors, strict=True)}
    common = marker in _COMMON and width > 0 < height and body[0] == _BITS and len(body) == 6 + 3 * len(shares)
    return _Frame(width, height, shares, marker in PROGRESSIVE, common)
