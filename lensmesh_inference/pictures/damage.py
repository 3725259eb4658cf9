"""Telling a picture that was cut short from one that is damaged otherwise."""

from __future__ import annotations

from typing import Literal

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason


def damaged(content: bytes, error: Exception, field: str) -> InvalidInput:
    """What to answer for a picture whose decoder raised `error`."""
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
