"""Memory of the process: what it uses, what it may use, and what the C library keeps of freed memory."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path
from typing import Final

# Of mallopt(3).
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_LARGE_BYTES: Final = 256 * 1024
_ARENAS: Final = 2


def give_back_large() -> None:
    """Have the C library return the memory of large messages at once, and let all threads share two heaps.

    glibc raises its own bounds with what it sees, up to 32 MiB, and gives every thread a heap. So a process that only
    passes images on keeps holes in all heaps, and its memory goes up and down by half. To be called before there are
    other threads. Nothing happens where the environment sets it (MALLOC_*, GLIBC_TUNABLES), or with another C library.
    """
    told = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and not told:
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)


def give_back_free() -> None:
    """Give the pages of freed memory back to the system, those between pages in use too. Takes some milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


# Version 2 and 1 of control groups, as a container sees its own.
_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
# Version 1 says "none" by a number of this size.
_NO_LIMIT: Final = 1 << 60


def resident_bytes() -> int:
    """Return how much memory this process uses now."""
    try:
        figures, page_bytes = _statm(os.getpid())
        return int(os.pread(figures, 256, 0).split()[1]) * page_bytes
    except OSError:
        # Only Linux tells it so.
        import psutil

        used: int = psutil.Process().memory_info().rss
        return used


@functools.cache
def _statm(_process: int) -> tuple[int, int]:
    """Return a descriptor of this process' figures, and the size of a page.

    It stays open: opening it takes twenty times as long as reading it, and every GetInfo reads it.
    """
    return os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC), os.sysconf("SC_PAGE_SIZE")


def container_limit_bytes() -> int:
    """Return how much memory the container may use; 0 for no limit."""
    for name in _LIMITS:
        try:
            told = Path(name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        return int(told) if told.isdigit() and int(told) < _NO_LIMIT else 0
    return 0
