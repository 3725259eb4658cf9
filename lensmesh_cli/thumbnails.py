"""Small images inside of a page."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from lensmesh_chassis.files import read_file

THUMBNAIL_PX = 240
MAX_PIXELS = 100_000_000
MAX_BYTES = 200 * 1024 * 1024

ImageSource: TypeAlias = "Path | bytes"

_SCAN = b"\xff\xda"
_MOST_SCANS = 50


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small JPEG, upright."""

    uri: str
    """Its data URI."""
    width: int
    height: int


def thumbnail(image: ImageSource) -> str:
    """Return a data URI of a small JPEG; "" where the image cannot be read here."""
    small = small_jpeg(image)
    return "" if small is None else small.uri


def small_jpeg(image: ImageSource) -> Thumbnail | None:
    """Return a small JPEG; None where the image cannot be read here."""
    from PIL import Image, ImageOps

    try:
        content = image if isinstance(image, bytes) else read_file(image, MAX_BYTES).data
        # Each scan of a JPEG goes over all of its pixels: a small file with hundreds takes a minute.
        if content.count(_SCAN) > _MOST_SCANS:
            return None
        with _silence(), Image.open(io.BytesIO(content)) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                return None
            # JPEG is decoded small at once.
            opened.draft("RGB", (2 * THUMBNAIL_PX, 2 * THUMBNAIL_PX))
            small = ImageOps.exif_transpose(opened).convert("RGB")
    except Exception:  # noqa: BLE001  # Pillow raises many kinds for damaged files, and a page goes without them
        return None
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=82)
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Thumbnail(uri, small.width, small.height)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the decoders' own messages off the terminal: libtiff writes thousands of lines about one odd file."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:
        # Nobody hears anything.
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
