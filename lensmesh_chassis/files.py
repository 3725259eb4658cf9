"""Reading of regular files on the caller's own disk: each is read once, nothing else is opened, memory is bounded."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

# A pipe without a writer is not waited for. Some of these are not everywhere.
_READ = os.O_RDONLY
for _name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):
    _READ |= getattr(os, _name, 0)
_MORE = 4096
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotReadableError(OSError):
    """A path whose content cannot be read: a pipe, a device, a large file, no answer in time. `str()` says why."""


class TooLargeError(NotReadableError):
    """A file with more bytes than asked for: `size`, as far as they were counted."""

    def __init__(self, size: int, message: str) -> None:
        super().__init__(message)
        self.size = size


@dataclass(frozen=True, slots=True)
class Content:
    """A file's content and state at one moment."""

    data: bytes
    state: str
    """Size and times; another one after any change."""


def state_of(facts: os.stat_result) -> str:
    """Return a text that changes whenever the file does: size, and the times of its last change in nanoseconds."""
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}"


def stat_file(path: Path, most_bytes: int) -> os.stat_result:
    """Look at a file before it is opened.

    Raises NotReadableError for a path that is no regular file and for one that is too large. Raises OSError as the
    system does.
    """
    facts = path.stat()
    _check(facts, most_bytes)
    return facts


def read_file(path: Path, most_bytes: int) -> Content:
    """Read a regular file of at most `most_bytes`; never more than that is held. Raises as `stat_file` does."""
    stat_file(path, most_bytes)
    # It may have become something else by now: a pipe that nobody writes to must not be waited for.
    descriptor = os.open(path, _READ)
    try:
        facts = os.fstat(descriptor)
        _check(facts, most_bytes)
        chunks: list[bytes] = []
        size = 0
        # All in one read where the size is right, so that no second copy is made of it.
        while chunk := os.read(descriptor, min(max(facts.st_size - size, 0) + _MORE, most_bytes + 1 - size)):
            chunks.append(chunk)
            size += len(chunk)
            if size > most_bytes:
                raise _too_large(size, f"more than {most_bytes}", most_bytes)
        after = os.fstat(descriptor)
        if (after.st_size, after.st_mtime_ns) != (facts.st_size, facts.st_mtime_ns):
            raise NotReadableError("it changed while it was read: send it again when it is whole")
    finally:
        os.close(descriptor)
    return Content(chunks[0] if len(chunks) == 1 else b"".join(chunks), state_of(facts))


def _check(facts: os.stat_result, most_bytes: int) -> None:
    if not stat.S_ISREG(facts.st_mode):
        kind = next((name for test, name in _KINDS if test(facts.st_mode)), "no regular file")
        raise NotReadableError(f"it is {kind}, not a file with an image")
    if facts.st_size > most_bytes:
        raise _too_large(facts.st_size, str(facts.st_size), most_bytes)


def _too_large(size: int, told: str, most_bytes: int) -> TooLargeError:
    return TooLargeError(size, f"the file has {told} bytes, the mesh takes {most_bytes}: re-encode it or scale it down")
