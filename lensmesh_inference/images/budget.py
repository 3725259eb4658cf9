"""A limit on the bytes that all decodes of a process take at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason


class DecodeBudget:
    """A number of bytes, handed out in the order of the requests. Safe to use from many threads."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes: Final = total_bytes
        self._left = total_bytes
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    @property
    def held_bytes(self) -> int:
        """The bytes that are held now."""
        return self.total_bytes - self._left

    @contextmanager
    def hold(self, size_bytes: int, field: str) -> Iterator[None]:
        """Hold room for one image. Wait for it where other images hold it.

        Raises ``InvalidInput`` (IMAGE_TOO_COSTLY), naming `field`, where the image alone is larger than the budget.
        """
        if size_bytes > self.total_bytes:
            raise InvalidInput(
                Reason.IMAGE_TOO_COSTLY,
                f"{field} takes {size_bytes} bytes to decode, the limit is {self.total_bytes}: scale it down, or save "
                "it with 8 bits a sample.",
                field=field,
                metadata={"decode_bytes": size_bytes, "max_decode_bytes": self.total_bytes},
            )
        with self._changed:
            # A large one is not overtaken for ever by small ones.
            if self._waiting or self._left < size_bytes:
                ticket = object()
                self._waiting.append(ticket)
                self._changed.wait_for(lambda: self._waiting[0] is ticket and self._left >= size_bytes)
                self._waiting.popleft()
                self._changed.notify_all()
            self._left -= size_bytes
        try:
            yield
        finally:
            with self._changed:
                self._left += size_bytes
                self._changed.notify_all()
