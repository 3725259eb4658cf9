"""The errors for images that cannot be decoded: cut short, damaged otherwise, or of an unsupported layout."""

from __future__ import annotations

from typing import Final, Literal

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images.chunks import png_chunks
from lensmesh_inference.images.jpeg_segments import segments
from lensmesh_inference.images.limits import FORMATS

_CUT_WORDS: Final = ("truncat", "premature", "eof", "not enough", "unexpected end", "buffer is not large enough")
_JPEG_END: Final = 0xD9


def undecodable(content: bytes, error: Exception, field: str) -> InvalidInput:
    """Return the error for an image of a supported format whose decoder raised `error`."""
    whole = _is_whole(content)
    if whole is False or (whole is None and any(word in str(error).lower() for word in _CUT_WORDS)):
        return cut(content, field)
    return damaged(field)


def cut(content: bytes, field: str) -> InvalidInput:
    """Return the error for a file that ends before its image does."""
    return InvalidInput(
        Reason.IMAGE_TRUNCATED,
        f"{field} ends before its image does, after {len(content)} bytes: send the whole file.",
        field=field,
        metadata={"bytes": len(content)},
    )


def damaged(field: str, why: str = "") -> InvalidInput:
    """Return the error for a file that is complete, but broken."""
    reason = f" ({why})" if why else ""
    return InvalidInput(
        Reason.IMAGE_UNDECODABLE,
        f"{field} begins as an image does, but cannot be decoded: it is damaged{reason}; encode it again.",
        field=field,
    )


def unsupported(what: str, field: str) -> InvalidInput:
    """Return the error for a whole file of a kind that is not supported."""
    return InvalidInput(
        Reason.IMAGE_FORMAT_UNSUPPORTED,
        f"{field} is {what}, which is not read here: convert it to one of {', '.join(FORMATS)}.",
        field=field,
        metadata={"format": what},
    )


def _is_whole(content: bytes) -> bool | None:
    """Tell whether the file is as long as its container says, up to its end mark. None: the container does not say."""
    if content.startswith(b"RIFF"):
        return len(content) >= 12 and len(content) >= int.from_bytes(content[4:8], "little") + 8
    if content.startswith(b"\x89PNG"):
        return any(kind == b"IEND" for kind, _, _ in png_chunks(content))
    if content.startswith(b"\xff\xd8"):
        return any(segment.marker == _JPEG_END for segment in segments(content))
    if content.startswith(b"GIF8"):
        return None if content.rstrip(b"\0").endswith(b";") else False
    if content.startswith(b"BM") and (len(content) < 26 or len(content) < int.from_bytes(content[2:6], "little")):
        return False
    if content.startswith((b"II*\0", b"MM\0*")):
        order: Literal["little", "big"] = "little" if content.startswith(b"II") else "big"
        directory = int.from_bytes(content[4:8], order)
        tags = int.from_bytes(content[directory : directory + 2], order)
        if len(content) < directory + 2 + 12 * tags:
            return False
    return None
