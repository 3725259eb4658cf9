"""What decoding in processes with limits has refused and dropped, for whoever shows it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

Cause: TypeAlias = Literal["time", "memory", "crashed", "known"]
CAUSES: Final[tuple[Cause, ...]] = ("time", "memory", "crashed", "known")
"""Why an image was refused: it took too long, or more memory than there is for it, or ended its process; or it did so
before, and was not tried again."""


class DecodeCounts:
    """Counts since the process began. May be used from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refused: dict[Cause, int] = dict.fromkeys(CAUSES, 0)
        self._dropped_lines = 0

    @property
    def refused(self) -> Mapping[str, int]:
        """Images, by cause."""
        return {str(cause): number for cause, number in self._refused.items()}

    @property
    def dropped_lines(self) -> int:
        """Lines that decoding libraries wrote to standard error, those that a full pipe did not take left out."""
        return self._dropped_lines

    def refuse(self, cause: Cause) -> None:
        """Count one image."""
        with self._lock:
            self._refused[cause] += 1

    def drop(self, lines: int) -> None:
        """Count lines."""
        with self._lock:
            self._dropped_lines += lines
