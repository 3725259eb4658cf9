"""Sizes of an encoder's answers to images with local features or thumbnails, which are the largest."""

from __future__ import annotations

from typing import Final

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.thumbnails import most_bytes

# A vector of 2,048 numbers, and what else there is to tell.
_VECTOR_BYTES: Final = 12 * 1024
# The same with points and descriptors of 16,200 bytes.
ANSWER_BYTES: Final = 28 * 1024


def answer_bytes(*, featured: bool, thumbnail_px: int = 0) -> int:
    """Return the most bytes of one answer with what is asked for; 0 where its size needs no care."""
    return answer_bytes_with(most_bytes(thumbnail_px), featured=featured)


def answer_bytes_with(thumbnail_bytes: int, *, featured: bool) -> int:
    """Return the same of answers whose thumbnails have so many bytes at most."""
    if not featured and not thumbnail_bytes:
        return 0
    return (ANSWER_BYTES if featured else _VECTOR_BYTES) + thumbnail_bytes


def answers_in(max_message_bytes: int, each: int = ANSWER_BYTES) -> int:
    """Return how many answers of `each` bytes fit into a message, at least 1."""
    return max(1, max_message_bytes // each)


def check_answer_size(images: int, max_message_bytes: int, each: int = ANSWER_BYTES) -> None:
    """Refuse a call whose answer may exceed `max_message_bytes`. Raises RESPONSE_TOO_LARGE, with what would fit."""
    fits = answers_in(max_message_bytes, each)
    if images > fits:
        raise InvalidInput(
            Reason.RESPONSE_TOO_LARGE,
            f"the answer to {images} images may exceed {max_message_bytes} bytes with the local features or thumbnails "
            f"that options ask for: {fits} would fit, or use EncodeStream",
            field="images",
            metadata={"fits": fits, "limit_bytes": max_message_bytes},
        )
