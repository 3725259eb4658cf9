"""The memory that an embedded PostgreSQL shares for pages."""

import psutil

from lensmesh_chassis.process.memory import container_limit_bytes

_LEAST, _MOST = 128 << 20, 2 << 30


def shared_buffers() -> str:
    """Return the server's `shared_buffers`: a quarter of the memory, as PostgreSQL advises, within bounds.

    It is taken as it is used. What does not fit is read from the system's cache, page by page: with a million vectors
    in 128 MB that takes several times as long as the search itself.
    """
    return f"{_share(psutil.virtual_memory().total, container_limit_bytes()) >> 20}MB"


def _share(memory_bytes: int, limit_bytes: int) -> int:
    """Return the share of what a machine has, or of a container's limit (0: none)."""
    return max(_LEAST, min(min(memory_bytes, limit_bytes or memory_bytes) // 4, _MOST))
