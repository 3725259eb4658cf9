"""Samples of what the processes of a mesh hold, taken every few seconds."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil
from prometheus_client.parser import text_string_to_metric_families

from lensmesh_local.process import Managed

SERVICES = ("router", "encoder", "caption", "search")


@dataclass(frozen=True, slots=True)
class Sample:
    """The state of one process at one moment, `at_s` after the first sample."""

    at_s: float
    memory_mib: float
    """The resident memory."""
    threads: int
    tasks: int
    """The tasks of asyncio that have not ended."""
    descriptors: int
    queue_mib: float
    """The MiB that both lanes of all models hold; 0 in a service without models."""


class Sampler:
    """The samples by service. `after` is called with the seconds since the start, after each round."""

    def __init__(self, processes: Mapping[str, Managed], services: Sequence[str] = SERVICES) -> None:
        self._processes = {name: processes[name] for name in services}
        self._began = time.monotonic()
        self.samples: dict[str, list[Sample]] = {name: [] for name in services}

    @property
    def seconds(self) -> float:
        """The seconds since the first sample."""
        return time.monotonic() - self._began

    async def look(self) -> None:
        """Take one more sample of each process. Raises where a process has gone, or does not answer."""
        for name, process in self._processes.items():
            if process.restarts or process.pid is None:
                raise RuntimeError(f"{name} ended and was started again: its log is {process.spec.log_file}")
            self.samples[name].append(await asyncio.to_thread(self._look_at, process))

    def _look_at(self, process: Managed) -> Sample:
        found = psutil.Process(process.pid)
        shown = _gauges(str(process.ready["metrics"]))
        with found.oneshot():
            return Sample(
                at_s=round(self.seconds, 2),
                memory_mib=found.memory_info().rss / 2**20,
                threads=found.num_threads(),
                tasks=int(shown["lensmesh_event_loop_tasks"]),
                descriptors=found.num_fds(),
                queue_mib=shown.get("lensmesh_engine_queue_bytes", 0.0) / 2**20,
            )


def _gauges(address: str) -> dict[str, float]:
    """Return the sums of the sampled gauges."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    wanted = ("lensmesh_event_loop_tasks", "lensmesh_engine_queue_bytes")
    return {
        family.name: sum(sample.value for sample in family.samples)
        for family in text_string_to_metric_families(text)
        if family.name in wanted
    }
