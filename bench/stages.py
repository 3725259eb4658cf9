"""The search for the narrowest stage of a model service, by the share of its time that each stage is busy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from bench.services import Service
from lensmesh_cli.top.looks import Look, LookDifference, look


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a service and its callers at one moment."""

    seen: Look
    loop_s: float
    callers_s: tuple[float, ...]


async def snapshot(service: Service, callers: Sequence[int]) -> Snapshot:
    """Take a snapshot now. `callers` are process ids."""
    seen = (await look([service.metrics]))[0]
    process = psutil.Process(service.pid)
    # The event loop runs in the main thread, whose id is the process's.
    loop = next((thread for thread in process.threads() if thread.id == process.pid), None)
    times = [psutil.Process(pid).cpu_times() for pid in callers]
    loop_s = 0.0 if loop is None else loop.user_time + loop.system_time
    return Snapshot(seen, loop_s, tuple(one.user + one.system for one in times))


def shares(before: Snapshot, after: Snapshot, decode_workers: int) -> dict[str, float]:
    """Return the share of its time that each stage was busy, 0 to 1. The largest is what limits."""
    seconds = max(after.seen.at - before.seen.at, 1e-9)
    change = LookDifference([(before.seen, after.seen)])
    callers = [(late - early) / seconds for early, late in zip(before.callers_s, after.callers_s, strict=True)]
    return {
        "device": change.rate("lensmesh_engine_forward_seconds_sum"),
        "decoding": change.rate("lensmesh_engine_prepare_seconds_sum") / decode_workers,
        "event loop": (after.loop_s - before.loop_s) / seconds,
        "callers": max(callers, default=0.0),
    }


def limiting(found: dict[str, float]) -> str:
    """Describe the shares, as in "device (0.97 busy; decoding 0.55, event loop 0.31, callers 0.12)"."""
    first, *others = sorted(found.items(), key=lambda pair: -pair[1])
    rest = ", ".join(f"{name} {share:.2f}" for name, share in others)
    return f"{first[0]} ({first[1]:.2f} busy; {rest})"
