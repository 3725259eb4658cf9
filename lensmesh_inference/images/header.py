"""The checks of an encoded image before a pixel is decoded: its bytes, format, pixels and proportions."""

from __future__ import annotations

import io
from typing import Final

from PIL import Image

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images.ancillary import misread_by_pillow, without_ancillary
from lensmesh_inference.images.damage import undecodable, unsupported
from lensmesh_inference.images.kinds import is_text, kind_of
from lensmesh_inference.images.layouts import rare_layout
from lensmesh_inference.images.limits import FORMATS, ImageLimits
from lensmesh_inference.images.tiff import open_tiff
from lensmesh_inference.images.tiff_directories import MAGIC as TIFF_MARKS

_ACCEPTED_MAGIC: Final = (b"\xff\xd8", b"\x89PNG", b"GIF8")
# Sizes of the header behind a BMP's first 14 bytes: a text may begin with BM too.
_BMP_HEADERS: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})


def open_image(content: bytes, limits: ImageLimits, field: str) -> Image.Image:
    """Open an image whose header is within limits. Nothing is decoded yet.

    Raises ``InvalidInput``, with a separate reason for each defect.
    """
    check_bytes(content, limits, field)
    pil_image = _open(content, field)
    check_size(pil_image.size, limits, field)
    return pil_image


def check_bytes(content: bytes, limits: ImageLimits, field: str) -> None:
    """Raise ``InvalidInput`` for content that is empty or has too many bytes."""
    if not content:
        raise InvalidInput(Reason.IMAGE_EMPTY, f"{field} is empty: send the bytes of an encoded image.", field=field)
    if len(content) > limits.max_bytes:
        raise InvalidInput(
            Reason.IMAGE_TOO_LARGE,
            f"{field} has {len(content)} bytes, the limit is {limits.max_bytes}: send it smaller or more compressed.",
            field=field,
            metadata={"bytes": len(content), "max_image_bytes": limits.max_bytes},
        )


def check_size(size: tuple[int, int], limits: ImageLimits, field: str) -> None:
    """Raise ``InvalidInput`` for a width and height that are too many pixels, or too unequal."""
    width, height = size
    facts = {"width": width, "height": height, "max_image_pixels": limits.max_pixels}
    if width * height > limits.max_pixels:
        raise InvalidInput(
            Reason.IMAGE_TOO_MANY_PIXELS,
            f"{field} is {width} x {height} = {width * height} pixels, the limit is {limits.max_pixels}: "
            "scale it down.",
            field=field,
            metadata=facts,
        )
    if max(width, height) > limits.max_side_ratio * min(width, height):
        raise InvalidInput(
            Reason.IMAGE_TOO_NARROW,
            f"{field} is {width} x {height}: one side may be {limits.max_side_ratio} times the other, or it would grow "
            "without measure where a model scales the short side to its own size. Cut it into pieces, or crop it.",
            field=field,
            metadata={"width": width, "height": height, "max_image_side_ratio": limits.max_side_ratio},
        )


def _open(content: bytes, field: str) -> Image.Image:
    # Pillow's own bomb check is one limit for the whole process, and only warns up to twice that limit. Ours is
    # exact, per service, and made from the same header before any decoding.
    Image.MAX_IMAGE_PIXELS = None
    if content.startswith(TIFF_MARKS):
        return open_tiff(content, field)
    try:
        opened = Image.open(io.BytesIO(content), formats=FORMATS)
        return (open_without_ancillary(content) or opened) if misread_by_pillow(content) else opened
    except Exception as error:
        # Pillow's plugins raise whatever their parser stumbles over: OSError, SyntaxError, struct.error, ValueError.
        if not _is_accepted(content):
            raise _of_another_kind(content, field) from error
        image = open_without_ancillary(content)
        if image is None:
            rare = rare_layout(content)
            raise (unsupported(rare, field) if rare else undecodable(content, error, field)) from error
        return image


def open_without_ancillary(content: bytes) -> Image.Image | None:
    """Open the same image without its metadata, for an image that cannot be opened or decoded as it is.

    Return None where that does not help. As in browsers, ancillary data (profiles, texts, times, checksums of these)
    never decides about an image.
    """
    stripped = without_ancillary(content)
    if stripped is None or stripped == content:
        return None
    try:
        return Image.open(io.BytesIO(stripped), formats=FORMATS)
    except Exception:  # noqa: BLE001 - what the file says as it is was worse, and is told
        return None


def _is_accepted(content: bytes) -> bool:
    """Tell whether the first bytes are those of a supported format."""
    if content.startswith(b"BM"):
        return len(content) < 18 or int.from_bytes(content[14:18], "little") in _BMP_HEADERS
    return content.startswith(_ACCEPTED_MAGIC) or (content.startswith(b"RIFF") and content[8:12] in (b"WEBP", b""))


def _of_another_kind(content: bytes, field: str) -> InvalidInput:
    """Return the error for a file that no decoder here reads."""
    kind = kind_of(content)
    if kind is not None:
        return unsupported(kind, field)
    what = "plain text" if is_text(content) else "not an image in a known format"
    return InvalidInput(Reason.IMAGE_UNDECODABLE, f"{field} is {what}: send one of {', '.join(FORMATS)}.", field=field)
