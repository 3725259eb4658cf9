"""Endless inputs, no two alike.

For equal ones a cache, or a join of equal work in flight, would answer, not the model.
"""

from __future__ import annotations

import functools
import io
import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from PIL import Image

from lensmesh_chassis.files import read_file
from lensmesh_cli.disk import Disk, explain
from lensmesh_cli.reading import MOST_BYTES

MADE: Final = ((640, 480), (800, 600), (1024, 768), (1600, 1200))
_SOI: Final = b"\xff\xd8"
_WORDS: Final = (
    ("a", "one", "the"),
    ("small", "large", "red", "blue", "green", "white", "dark", "bright", "old", "new", "wet"),
    ("dog", "cat", "bicycle", "boat", "house", "tree", "car", "bird", "cup", "bridge", "train", "flower", "horse"),
    ("on", "near", "under", "behind", "beside"),
    ("a beach", "a street", "the snow", "a table", "a river", "the grass", "a wall", "the station", "some people"),
    ("at night", "in the morning", "in the rain", "in summer", "in winter", "at noon", "in fog"),
)


def distinct(jpeg: bytes, number: int) -> bytes:
    """Return the same JPEG image with a different comment: other bytes, the same pixels at the same cost."""
    if not jpeg.startswith(_SOI):
        raise ValueError("this is no JPEG file")
    comment = f"{number:016x}".encode()
    return b"".join((_SOI, b"\xff\xfe", (len(comment) + 2).to_bytes(2, "big"), comment, jpeg[2:]))


def as_jpeg(content: bytes) -> bytes:
    """Convert an image of any format to JPEG. A JPEG is returned as it is. Raises OSError for what is no image."""
    if content.startswith(_SOI):
        return content
    file = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").save(file, "JPEG", quality=90)
    return file.getvalue()


def read(files: Sequence[Path]) -> list[bytes]:
    """Read files as JPEG. Raises OSError, which names the file, for one that cannot be read or is no image."""
    contents = []
    with Disk() as disk:
        for path in files:
            try:
                contents.append(as_jpeg(disk.run(functools.partial(read_file, path, MOST_BYTES)).data))
            except Exception as error:  # Pillow raises many kinds for damaged files
                why = explain(error) if isinstance(error, OSError) else str(error)
                raise OSError(f"{path}: {why}") from error
    return contents


def made() -> list[bytes]:
    """Make images of several sizes that cost about as much to decode as photographs.

    They serve users who have none at hand.
    """
    noise = random.Random(7)
    found = []
    for width, height in MADE:
        small = Image.frombytes("RGB", (width // 8, height // 8), noise.randbytes(width // 8 * (height // 8) * 3))
        file = io.BytesIO()
        small.resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        found.append(file.getvalue())
    return found


def images(contents: Sequence[bytes], salt: int) -> Iterator[bytes]:
    """Yield these JPEG images over and over, each time with other bytes.

    Supplies of different `salt` have no image in common.
    """
    for number in itertools.count(salt << 40):
        yield distinct(contents[number % len(contents)], number)


def texts(salt: int) -> Iterator[str]:
    """Yield short descriptions such as people search with, some ten words long. None comes twice in 135,000."""
    count = 1
    for words in _WORDS:
        count *= len(words)
    for number in itertools.count(salt):
        # A step without a common divisor visits every one before any comes again.
        left, picked = number * 48_271 % count, []
        for words in _WORDS:
            left, index = divmod(left, len(words))
            picked.append(words[index])
        yield " ".join(picked)
