"""A client that sends ten times what the device can compute. Queue and memory must not grow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from bench.measure import Results, line, read_figures
from bench.services import Service
from bench.stage import Stage
from lensmesh_cli.top.looks import LookDifference, look

# A little more than the ten that are to be shown: how many came is told.
TIMES = 11
SECONDS = 60.0
# Whoever is refused is answered too: what a test has to wait for afterwards is many times this.
SMOKE_SECONDS = 2.0
# However long it takes: one every half second of a minute.
MOMENTS = 120


@dataclass(frozen=True, slots=True)
class Moment:
    """The memory and queue of a service at one moment."""

    memory_bytes: float
    queue_bytes: float


async def flood(stage: Stage, results: Results, say: Callable[[str], None]) -> None:
    """Flood for one minute. Write `extra["flood_memory"]` and `extra["flood_queue"]`.

    Each is the ratio of the largest value of the last third to the largest of the middle third; the first third warms
    up. `extra["flood_times"]` is the ratio of what was sent in calls to what the device can compute.
    """
    encoder = await stage.encoder()
    caller = await stage.caller(encoder)
    seconds = SMOKE_SECONDS if stage.options.smoke else SECONDS
    rate = read_figures(await caller.ask("stream", items="images", seconds=stage.options.seconds, warm=1.0)).rate
    pressing = asyncio.create_task(caller.ask("flood", rate=TIMES * rate, seconds=seconds, timeout_s=1800))
    moments = await _watch(encoder, pressing, seconds)
    found = read_figures(await pressing)
    offered = found.offered or 0.0
    results.titles["flood"] = f"{offered:.0f} images/s in calls, and streams, to a device that does {rate:.1f}"
    results.rounds["flood"] = [found]
    say(line("flood", found))
    results.extra |= {
        "flood_times": [offered / rate],
        "flood_memory": [growth([one.memory_bytes for one in moments])],
        "flood_queue": [growth([one.queue_bytes for one in moments])],
        "flood_memory_mb": [max(one.memory_bytes for one in moments) / 1e6],
        "flood_queue_mb": [max(one.queue_bytes for one in moments) / 1e6],
    }


def growth(values: Sequence[float]) -> float:
    """Return the ratio of the largest value of the last third to that of the middle third; 1 where both are 0."""
    third = len(values) // 3
    if not third:
        raise ValueError(f"{len(values)} values are too few to tell growth")
    middle, last = max(values[third : 2 * third]), max(values[2 * third :])
    if not middle:
        return 1.0 if not last else float("inf")
    return last / middle


async def _watch(service: Service, pressing: asyncio.Task[object], seconds: float) -> list[Moment]:
    process, moments = psutil.Process(service.pid), []
    clock = asyncio.get_running_loop().time
    end = clock() + seconds
    while clock() < end and not pressing.done():
        seen = (await look([service.metrics]))[0]
        queue = LookDifference([(seen, seen)]).now("lensmesh_engine_queue_bytes")
        moments.append(Moment(process.memory_info().rss, queue))
        await asyncio.sleep(seconds / MOMENTS)
    return moments
