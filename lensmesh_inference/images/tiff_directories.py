"""The directories and tags of a TIFF, counted."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import Final, Literal

from lensmesh_inference.images.pieces import Count, Structure

MAGIC: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"II\0*", b"MM*\0")
# Of all pages that are looked at together; a page of a camera or a microscope has 20 to 200.
MOST_TAGS: Final = 20_000
# Pages behind these are not looked at, and not decoded either.
MOST_PAGES: Final = 64
# Strips and tiles of one page: 50 megapixels in tiles of 16 x 16 are 195,000.
MOST_STRIPS: Final = 250_000
# A page that says it is reduced may have the image that it was made of among so many below it.
SUB_PAGES_CHOSEN_FROM: Final = 4
# Values of each tag that are kept.
_FEW: Final = SUB_PAGES_CHOSEN_FROM

_SUBFILE, _OLD_SUBFILE, _SUB_PAGES = 254, 255, 330
WIDTH, HEIGHT, BITS, STRIPS, SAMPLES, TILES = 256, 257, 258, 273, 277, 324
_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 8: 2, 9: 4, 13: 4, 16: 8, 17: 8}


class TiffDirectory(dict[int, tuple[int, ...]]):
    """The first few values of each tag of one page that holds integers, by the tag's number.

    `counts` tells how many values each tag has.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[int, int] = {}

    def first(self, tag: int, default: int) -> int:
        """Return the first value of a tag."""
        values = self.get(tag)
        return values[0] if values else default

    @property
    def below(self) -> tuple[int, ...]:
        """The places of the pages of which this one may be a reduced version."""
        reduced = self.first(_SUBFILE, 0) & 1 or self.first(_OLD_SUBFILE, 1) == 2
        return self.get(_SUB_PAGES, ()) if reduced else ()


def directories(content: bytes) -> Iterator[TiffDirectory]:
    """Yield the pages in order, `MOST_PAGES` at most. Each is read once, and followed by the pages below it.

    Raises ``TooComplexError``.
    """
    order = "<" if content.startswith(b"II") else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    start, head = (8, "Q") if big else (4, "I")
    tags, seen = Count("tags", MOST_TAGS), set[int]()
    try:
        (at,) = struct.unpack_from(order + head, content, start)
        while 0 < at < len(content) and at not in seen and len(seen) < MOST_PAGES:
            seen.add(at)
            directory, end = _directory(content, at, order, tags, big=big)
            yield directory
            for below in directory.below:
                # One that is cut keeps no other from being read.
                with contextlib.suppress(struct.error):
                    yield _directory(content, below, order, tags, big=big)[0]
            (at,) = struct.unpack(order + head, content[end : end + struct.calcsize(order + head)])
    except struct.error:
        # Cut, or no directory where one should be.
        return


def _directory(content: bytes, at: int, order: str, tags: Count, *, big: bool) -> tuple[TiffDirectory, int]:
    """Read the page whose tags begin at `at`. Return it, and where its tags end."""
    head, entry, inline = ("Q", 20, 8) if big else ("I", 12, 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), content, at)
    at += 8 if big else 2
    directory = TiffDirectory()
    for place in range(at, min(at + entry * count, len(content)), entry):
        tags.add()
        _read_tag(content, place, order, head, inline, directory)
    return directory, at + entry * count


def _read_tag(content: bytes, place: int, order: str, head: str, inline: int, directory: TiffDirectory) -> None:
    tag, kind, count = struct.unpack_from(f"{order}HH{head}", content, place)
    size = _SIZES.get(kind, 0)
    directory.counts.setdefault(tag, count)
    if not size or tag in directory:
        return
    value = place + 4 + inline
    if size * count > inline:
        (value,) = struct.unpack_from(order + head, content, value)
    few = min(count, _FEW)
    raw = content[value : value + few * size]
    whole: Literal["little", "big"] = "little" if order == "<" else "big"
    directory[tag] = tuple(int.from_bytes(raw[at : at + size], whole) for at in range(0, len(raw) - size + 1, size))


def walk(content: bytes) -> Structure:
    """Count tags and strips of a TIFF, and find its largest page. Raises ``TooComplexError``.

    A TIFF is never `usual`: libtiff takes so many layouts and codings that none of them proves a cost, and it writes to
    the process's standard error.
    """
    width = height = 0
    deepest, pages = 4.0, 0
    for directory in directories(content):
        pages += 1
        for tag in (STRIPS, TILES):
            Count("strips", MOST_STRIPS).add(directory.counts.get(tag, 0))
        across, down = directory.first(WIDTH, 0), directory.first(HEIGHT, 0)
        if across * down > width * height:
            width, height = across, down
            samples = max(1, directory.first(SAMPLES, len(directory.get(BITS, (8,)))))
            # Pillow's rasters have one byte or four for a pixel, and libtiff's own as many as the file says.
            deepest = max(4.0, directory.first(BITS, 1) * samples / 8)
    return Structure("TIFF", width, height, bytes_per_pixel=deepest, pieces={"pages": pages})
