"""Encoded pictures from strangers, turned into RGB pictures or refused before they can hurt.

What each kind of picture becomes: the first frame of an animation or of a multi-page file; 16-bit grey scaled to 8
bits (not clipped); CMYK converted; transparency dropped, not blended, as open_clip's own ``convert("RGB")`` does, so
that vectors agree with those that open_clip computes from the same file; EXIF orientation applied. All of it before
any resizing: open_clip's transform, given a palette picture, would resize the palette's indices.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Final, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.pictures.limits import FORMATS, ImageLimits

_ORIENTATION_TAG: Final = 0x0112
_TURNS: Final[Mapping[int, Image.Transpose]] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ACCEPTED_MAGIC: Final = (b"\xff\xd8", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_OTHER_MAGIC: Final[Mapping[str, tuple[int, bytes]]] = {
    "HEIC or AVIF": (4, b"ftyp"),
    "JPEG 2000": (0, b"\0\0\0\x0cjP"),
    "JPEG XL": (0, b"\xff\x0a"),
    "Photoshop": (0, b"8BPS"),
    "PDF": (0, b"%PDF"),
    "SVG": (0, b"<svg"),
    "XML or SVG": (0, b"<?xml"),
    "ICO": (0, b"\0\0\1\0"),
}


def decode_image(content: bytes, limits: ImageLimits, field: str = "image") -> Image.Image:
    """Decode one picture, completely: nothing is left to be read lazily in somebody else's batch.

    Returns an upright RGB picture. Raises ``InvalidInput`` with a reason of its own for each way to be bad; `field`
    is its dotted path in the request. Width and height are read from the header and checked before a pixel is
    decoded.
    """
    if not content:
        raise InvalidInput(Reason.IMAGE_EMPTY, f"{field} is empty: send the bytes of an encoded picture.", field=field)
    if len(content) > limits.max_bytes:
        raise InvalidInput(
            Reason.IMAGE_TOO_LARGE,
            f"{field} has {len(content)} bytes, the limit is {limits.max_bytes}: send it smaller or more compressed.",
            field=field,
            metadata={"bytes": len(content), "max_image_bytes": limits.max_bytes},
        )
    picture = _open(content, field)
    _check_size(picture, limits, field)
    try:
        picture.load()
        rgb = _to_rgb(picture)
    except InvalidInput:
        raise
    except Exception as error:
        # Pillow's plugins raise whatever their parser stumbles over: OSError, SyntaxError, struct.error, ValueError,
        # EOFError.
        raise _damaged(content, error, field) from error
    turn = _TURNS.get(_orientation(picture))
    return rgb if turn is None else rgb.transpose(turn)


def _open(content: bytes, field: str) -> Image.Image:
    # Pillow's own bomb check is one limit for the whole process, and only warns up to twice that limit. Ours is
    # exact, per service, and made from the same header before any decoding.
    Image.MAX_IMAGE_PIXELS = None
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        if content.startswith(_ACCEPTED_MAGIC):
            raise _damaged(content, error, field) from error
        for name, (start, magic) in _OTHER_MAGIC.items():
            if content[start:].startswith(magic):
                raise InvalidInput(
                    Reason.IMAGE_FORMAT_UNSUPPORTED,
                    f"{field} looks like {name}: convert it to one of {', '.join(FORMATS)}.",
                    field=field,
                    metadata={"format": name},
                ) from error
        raise InvalidInput(
            Reason.IMAGE_UNDECODABLE,
            f"{field} is not a picture in a known format: send one of {', '.join(FORMATS)}.",
            field=field,
        ) from error
    except Exception as error:
        raise _damaged(content, error, field) from error


def _check_size(picture: Image.Image, limits: ImageLimits, field: str) -> None:
    width, height = picture.size
    facts = {"width": width, "height": height, "max_image_pixels": limits.max_pixels}
    if width * height > limits.max_pixels:
        raise InvalidInput(
            Reason.IMAGE_TOO_MANY_PIXELS,
            f"{field} is {width} x {height} = {width * height} pixels, the limit is {limits.max_pixels}: "
            "scale it down.",
            field=field,
            metadata=facts,
        )
    if max(width, height) > limits.max_aspect * min(width, height):
        raise InvalidInput(
            Reason.IMAGE_TOO_MANY_PIXELS,
            f"{field} is {width} x {height}: one side is more than {limits.max_aspect} times the other, and would "
            "grow without measure where a model scales the short side to its own size. Crop it.",
            field=field,
            metadata=facts,
        )


def _damaged(content: bytes, error: Exception, field: str) -> InvalidInput:
    text = str(error).lower()
    if any(word in text for word in ("truncat", "premature", "eof", "not enough", "unexpected end")) or _is_cut(
        content
    ):
        return InvalidInput(
            Reason.IMAGE_TRUNCATED,
            f"{field} ends before its picture does, after {len(content)} bytes: send the whole file.",
            field=field,
            metadata={"bytes": len(content)},
        )
    return InvalidInput(
        Reason.IMAGE_UNDECODABLE,
        f"{field} has the beginning of a picture, but cannot be decoded: it is damaged; encode it again.",
        field=field,
    )


def _is_cut(content: bytes) -> bool:
    """Whether the file is shorter than its container says, or lacks its end mark."""
    if content.startswith(b"RIFF"):
        return len(content) < 12 or len(content) < int.from_bytes(content[4:8], "little") + 8
    if content.startswith(b"\x89PNG"):
        return b"IEND" not in content[-12:]
    if content.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in content[-64:]
    if content.startswith(b"GIF8"):
        return not content.rstrip(b"\0").endswith(b";")
    if content.startswith(b"BM"):
        return len(content) < 26 or len(content) < int.from_bytes(content[2:6], "little")
    if content.startswith((b"II*\0", b"MM\0*")):
        order: Literal["little", "big"] = "little" if content.startswith(b"II") else "big"
        directory = int.from_bytes(content[4:8], order)
        tags = int.from_bytes(content[directory : directory + 2], order)
        return len(content) < directory + 2 + 12 * tags
    return False


def _to_rgb(picture: Image.Image) -> Image.Image:
    mode = picture.mode
    if mode == "RGB":
        # A plugin's own class keeps the file's buffer alive: a plain picture does not.
        return picture.copy()
    if mode.startswith("I;16"):
        return _grey((np.asarray(picture).astype(np.uint32) + 128) // 257)
    if mode == "I":
        wide = np.asarray(picture).astype(np.int64)
        # 32-bit files mostly hold 16-bit measurements; where they really use more, the full range is scaled.
        return _grey((wide.clip(0, 65535) + 128) // 257 if wide.max() <= 65535 else wide.clip(0) >> 23)
    if mode == "F":
        real = np.nan_to_num(np.asarray(picture), nan=0.0, posinf=0.0, neginf=0.0)
        return _grey((real * 255 if real.max() <= 1 else real).clip(0, 255).round())
    if mode in {"P", "PA", "La", "RGBa"}:
        # Straight to RGB, Pillow would warn about transparency in bytes; the colours are the same this way.
        return picture.convert({"La": "LA"}.get(mode, "RGBA")).convert("RGB")
    return picture.convert("RGB")


def _grey(levels: np.ndarray) -> Image.Image:
    return Image.fromarray(levels.astype(np.uint8)).convert("RGB")


def _orientation(picture: Image.Image) -> int:
    # Read after load(): Pillow turns TIFF pictures itself and takes the tag away.
    try:
        return int(picture.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - broken EXIF raises anything, and a picture is no worse for lacking it
        return 1
