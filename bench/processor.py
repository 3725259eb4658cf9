"""The processor time of processes, by the clock that the kernel keeps for each, to the microsecond."""

from __future__ import annotations

import contextlib
import time

import psutil


def process_s(pid: int) -> float:
    """Return the processor seconds of one process so far, all its threads counted."""
    # A process's own clock, by the number that Linux gives it.
    return time.clock_gettime((~pid << 3) | 2)


def family_s(pid: int) -> float:
    """Return the processor seconds of a process and of all that it started, ended ones included."""
    total = process_s(pid)
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        ended = process.cpu_times()
        total += ended.children_user + ended.children_system
        for child in process.children(recursive=True):
            with contextlib.suppress(OSError):
                total += process_s(child.pid)
    return total
