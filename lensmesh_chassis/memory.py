"""What the C library does with memory that a service has freed: by default it keeps much of it."""

from __future__ import annotations

import ctypes
import os
from typing import Final

# Of mallopt(3).
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_LARGE_BYTES: Final = 256 * 1024
_ARENAS: Final = 2


def give_back_large() -> None:
    """Give what large messages took back to the system as soon as they are gone, and let all threads share two heaps.

    glibc raises its own bounds with what it sees, up to 32 MiB, and gives every thread a heap: a process that only
    passes pictures on keeps holes in all of them, and its memory goes up and down by half. To be called before there
    are other threads. Nothing happens where the environment says how (MALLOC_*, GLIBC_TUNABLES), or with another C
    library.
    """
    told = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and not told:
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)
