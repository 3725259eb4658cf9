"""Bytes by key, in memory. The least recently used ones are dropped where a limit would be exceeded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

# What one entry takes besides its key and value: the headers of both objects, and its place in the dictionary, whose
# table is at its fullest just before it doubles. Measured with tracemalloc, and held against it by a test.
ENTRY_BYTES: Final = 200


class ByteLru:
    """At most `limit_bytes` of entries, including what Python needs for them. 0 keeps nothing.

    Any thread may use it.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self.evictions = 0
        """Entries dropped to make room."""
        self._entries: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> bytes | None:
        """Return the value, which is now the last one to be dropped."""
        with self._lock:
            value = self._entries.get(key)
            if value is not None:
                self._entries.move_to_end(key)
            return value

    def put(self, key: str, value: bytes) -> None:
        """Keep a value in place of the key's old one. A value that is larger than the whole limit is not kept."""
        size = _size(key, value)
        with self._lock:
            self._drop(key)
            if size > self.limit_bytes:
                return
            while self.held_bytes + size > self.limit_bytes:
                self._give_up(*self._entries.popitem(last=False))
                self.evictions += 1
            self._entries[key] = value
            self.held_bytes += size

    def drop(self, key: str) -> None:
        """Forget a key, if it is there."""
        with self._lock:
            self._drop(key)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self.held_bytes = 0

    def _drop(self, key: str) -> None:
        value = self._entries.pop(key, None)
        if value is not None:
            self._give_up(key, value)

    def _give_up(self, key: str, value: bytes) -> None:
        self.held_bytes -= _size(key, value)


def _size(key: str, value: bytes) -> int:
    return len(key) + len(value) + ENTRY_BYTES
