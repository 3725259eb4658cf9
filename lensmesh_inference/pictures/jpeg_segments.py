"""The segments and scans of a JPEG, counted as libjpeg meets them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lensmesh_inference.pictures.pieces import Count, Structure, TooComplexError

# Profiles of 16 MB, extended XMP and depth maps of phones make some hundred segments of up to 64 KiB; a file of the
# largest size that is accepted, cut into full segments, has 320.
MOST_SEGMENTS: Final = 5_000
# The usual script of a progressive JPEG has 10 scans, optimizers search among some twenty; a scan is a few bytes at
# least, and makes the decoder visit each block of the image.
MOST_SCANS: Final = 200
# Millions of pixels that all scans together visit, colour by colour: 50 megapixels in ten scans without subsampling
# are 700, optimized ones a thousand. One costs a millisecond.
MOST_SCANNED_MEGAPIXELS: Final = 1_500
# Bytes between segments. The standard allows any number before each marker; a few align the segments of some writers.
MOST_FILL_BYTES: Final = 64 * 1024

_USUAL_SEGMENTS: Final = 400
_USUAL_SEGMENT_BYTES: Final = 4 * 1024 * 1024
# Photoshop's resources are read by Pillow in a loop, one by one.
_USUAL_RESOURCE_BYTES: Final = 256 * 1024
_USUAL_FILL_BYTES: Final = 1024
# Two tenths of a second.
_USUAL_SCANNED_MEGAPIXELS: Final = 200
# Start of frame: all but DHT, JPG and DAC in this range. Of the progressive ones the decoder keeps all coefficients.
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
# Markers that no length follows.
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_SCAN, _END, _RESOURCES = 0xDA, 0xD9, 0xED
_MARKER: Final = re.compile(rb"\xff[^\x00\xff]")
_SCAN_END: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_BLOCK: Final = 256 * 1024
_LARGEST_BLOCK: Final = 1024 * 1024


@dataclass(frozen=True)
class Segment:
    """One marker and what follows it: `content[start:stop]` are its bytes behind the length. `fill` are the bytes
    before its marker that belong to nothing."""

    marker: int
    start: int
    stop: int
    fill: int = 0


@dataclass
class _Frame:
    """What the start of frame says."""

    width: int = 0
    height: int = 0
    # Of each component by its id: its samples for each pixel.
    shares: dict[int, float] | None = None
    progressive: bool = False

    @property
    def samples(self) -> float:
        """For each pixel."""
        return sum((self.shares or {}).values())


def segments(content: bytes) -> Iterator[Segment]:
    """All segments up to the end of the image or of the file; what is behind the end of the image is not looked at.

    The compressed data behind each start of scan (0xDA) is passed over.
    """
    data = np.frombuffer(content, np.uint8)
    at, in_scan = 2, False
    while True:
        found = _marker(content, data, at, in_scan=in_scan)
        if found is None:
            return
        marker, fill = content[found + 1], 0 if in_scan else found - at
        start = found + 2
        if marker == _END:
            yield Segment(marker, start, start, fill)
            return
        if marker in _ALONE:
            yield Segment(marker, start, start, fill)
            at, in_scan = start, False
            continue
        length = max(2, int.from_bytes(content[start : start + 2], "big"))
        yield Segment(marker, start + 2, min(start + length, len(content)), fill)
        at, in_scan = start + length, marker == _SCAN


def _marker(content: bytes, data: npt.NDArray[np.uint8], at: int, *, in_scan: bool) -> int | None:
    """Where the next marker's 0xFF stands that no other 0xFF follows; in a scan, of those that end it."""
    if not in_scan and content[at : at + 1] == b"\xff" and content[at + 1 : at + 2] not in (b"", b"\0", b"\xff"):
        return at
    # Quick for most files; what is made to be slow for it is left to numpy.
    ends_here = (_SCAN_END if in_scan else _MARKER).search(content, at, at + _BLOCK + 1)
    if ends_here is not None:
        return ends_here.start()
    at, size = at + _BLOCK, _BLOCK
    while at < len(content) - 1:
        block = data[at : at + size + 1]
        places = np.flatnonzero(block[:-1] == 0xFF)
        codes = block[places + 1]
        ends = (codes != 0) & (codes != 0xFF)
        if in_scan:
            ends &= (codes & 0xF8) != 0xD0
        hits = np.flatnonzero(ends)
        if len(hits):
            return at + int(places[hits[0]])
        at += size
        size = min(2 * size, _LARGEST_BLOCK)
    return None


def walk(content: bytes) -> Structure:
    """Count what a JPEG is built of. Raises ``TooComplexError``."""
    count, scans = Count("segments", MOST_SEGMENTS), Count("scans", MOST_SCANS)
    fill = Count("bytes between segments", MOST_FILL_BYTES)
    frame, scanned, total, resources = _Frame(), 0.0, 0, 0
    for segment in segments(content):
        count.add()
        fill.add(segment.fill)
        total += segment.stop - segment.start
        if segment.marker in _FRAMES:
            frame = _read_frame(content[segment.start : segment.stop], progressive=segment.marker in _PROGRESSIVE)
        elif segment.marker == _RESOURCES:
            resources += segment.stop - segment.start
        elif segment.marker == _SCAN:
            scans.add()
            scanned += _scanned(content[segment.start : segment.stop], frame) / 1e6
            if scanned > MOST_SCANNED_MEGAPIXELS and scans.number > 1:
                raise TooComplexError("megapixels in its scans together", MOST_SCANNED_MEGAPIXELS)
    usual = (
        count.number <= _USUAL_SEGMENTS
        and total <= _USUAL_SEGMENT_BYTES
        and resources <= _USUAL_RESOURCE_BYTES
        and fill.number <= _USUAL_FILL_BYTES
        and scanned <= _USUAL_SCANNED_MEGAPIXELS
    )
    return Structure(
        "JPEG",
        frame.width,
        frame.height,
        # Pillow keeps colours in four bytes.
        bytes_per_pixel=1 if frame.samples == 1 else 4,
        working_bytes_per_pixel=2 * frame.samples if frame.progressive or scans.number > 1 else 0,
        usual=usual,
        pieces={"segments": count.number, "scans": scans.number},
    )


def _read_frame(body: bytes, *, progressive: bool) -> _Frame:
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    factors = {body[at]: (body[at + 1] >> 4, body[at + 1] & 15) for at in range(6, len(body) - 2, 3)}
    widest = max((across for across, _ in factors.values()), default=1) or 1
    highest = max((down for _, down in factors.values()), default=1) or 1
    shares = {name: across * down / (widest * highest) for name, (across, down) in factors.items()}
    return _Frame(width, height, shares, progressive)


def _scanned(body: bytes, frame: _Frame) -> float:
    """How many samples a scan with this header visits."""
    components = [body[at] for at in range(1, min(len(body), 1 + 2 * body[0] if body else 0), 2)]
    shares = frame.shares or {}
    return frame.width * frame.height * sum(shares.get(name, 0) for name in components)
