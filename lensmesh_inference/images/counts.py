"""Counts of what decoding in processes with limits has refused and dropped."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

Cause: TypeAlias = Literal["time", "memory", "crashed", "known"]
CAUSES: Final[tuple[Cause, ...]] = ("time", "memory", "crashed", "known")
"""The causes of a refusal: the image took too long, needed more memory than there is for it, or ended its process; or
it did one of these before, and was not tried again."""


class DecodeCounts:
    """Counts since the process began. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refused: dict[Cause, int] = dict.fromkeys(CAUSES, 0)
        self._dropped_lines = 0

    @property
    def refused(self) -> Mapping[str, int]:
        """The number of refused images, by cause."""
        return {str(cause): number for cause, number in self._refused.items()}

    @property
    def dropped_lines(self) -> int:
        """The number of lines that decoding libraries wrote to standard error.

        Lines that a full pipe did not take are missing.
        """
        return self._dropped_lines

    def refuse(self, cause: Cause) -> None:
        """Count one refused image."""
        with self._lock:
            self._refused[cause] += 1

    def drop(self, lines: int) -> None:
        """Count dropped lines."""
        with self._lock:
            self._dropped_lines += lines
