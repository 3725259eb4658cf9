"""Sizes of answers with local features, which are the largest that an image can have."""

from __future__ import annotations

from typing import Final

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason

# Points and descriptors of 16,200 bytes, a vector of 2,048 numbers, and what else there is to tell.
ANSWER_BYTES: Final = 28 * 1024


def answers_in(max_message_bytes: int) -> int:
    """Return how many answers with local features fit into a message, at least 1."""
    return max(1, max_message_bytes // ANSWER_BYTES)


def check_answer_size(images: int, max_message_bytes: int) -> None:
    """Refuse a call whose answer may exceed `max_message_bytes`. Raises RESPONSE_TOO_LARGE, with what would fit."""
    fits = answers_in(max_message_bytes)
    if images > fits:
        raise InvalidInput(
            Reason.RESPONSE_TOO_LARGE,
            f"the answer to {images} images may exceed {max_message_bytes} bytes with options.local_features: {fits} "
            "would fit, or use EncodeStream",
            field="images",
            metadata={"fits": fits, "limit_bytes": max_message_bytes},
        )
