"""The CPUs that this process may use: a container's share, not the machine's.

Three things limit it, and the least of them counts: the machine's CPUs, the affinity of the process, and the CPU quota
of its control group. A quota is time. Take a quota of 2 CPUs on a machine of 64: 64 threads would use it up at the
beginning of each period and then all stand still.
"""

from __future__ import annotations

import functools
import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/")
_log = logging.getLogger(__name__)


@functools.cache
def cpu_count(root: Path = _ROOT) -> int:
    """Return the number of CPUs that this process may use, at least 1; a quota of 2.5 is 2. Log once what was found."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root)
    count = allowed if quota is None else max(1, min(allowed, math.floor(quota)))
    of = f"{os.cpu_count()} CPUs here, {allowed} by affinity"
    _log.info("%d CPUs are used: %s, %s", count, of, "no quota" if quota is None else f"a quota of {quota:g}")
    return count


def cpu_quota(root: Path = _ROOT) -> float | None:
    """Return how many CPUs' time the process' control groups leave it, or None without a limit.

    A group can have no more than any group around it. `root` holds `proc/self` and `sys/fs/cgroup`.
    """
    quotas = [quota for folder in _groups(root) if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the process' control groups, from the innermost to the outermost that can be seen."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in _mounts(root, v1=bool(controllers)):
            yield from _chain(mount, path)


def _mounts(root: Path, *, v1: bool) -> Iterator[Path]:
    """Yield the folders where the hierarchy with the CPU controller lies; in a mixed set-up version 2 has its own."""
    base = root / "sys/fs/cgroup"
    names = ("cpu,cpuacct", "cpuacct,cpu", "cpu") if v1 else ("", "unified")
    seen: set[Path] = set()
    for name in names:
        folder = base / name
        if folder.is_dir() and (real := folder.resolve()) not in seen:
            seen.add(real)
            yield folder


def _chain(mount: Path, path: str) -> Iterator[Path]:
    # In a namespace of its own, or with the host's path in a container, some of these folders are not there: those that
    # are can be seen from here, the mount itself among them, which then is the container's own group.
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    for length in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:length])


def _quota_of(folder: Path) -> float | None:
    """Return how many CPUs' time one group has.

    Version 2 has one file for it, "MICROSECONDS|max PERIOD"; version 1 has two.
    """
    words = _text(folder / "cpu.max").split()
    if not words:
        words = [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    try:
        quota, period = int(words[0]), int(words[1])
    except (ValueError, IndexError):
        return None
    return quota / period if quota > 0 and period > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
