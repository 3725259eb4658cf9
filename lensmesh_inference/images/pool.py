"""The threads in which images are decoded: never the event loop, never a device's thread, and careful ones apart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from lensmesh_inference.batching.lanes import Lane
from lensmesh_inference.batching.running import Running
from lensmesh_inference.devices import DeviceFacts, cpu_count
from lensmesh_inference.images.care import be_quick
from lensmesh_inference.images.decoder import ImageDecoder, choose_processes
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.threads import Job, LaneThreads
from lensmesh_inference.options import DecodeOptions

T = TypeVar("T")
J = TypeVar("J", bound=Job)

CAREFUL_END_S = 5.0


def open_pool(options: DecodeOptions, devices: Iterable[DeviceFacts]) -> DecodePool:
    """Open a pool for models on these devices."""
    processes = choose_processes(options.processes, on_gpu=any(one.id != "cpu" for one in devices))
    decoder = ImageDecoder(options.limits, scaled=options.scaled, processes=processes, costs=options.costs)
    return DecodePool(options.threads or decoder.threads, decoder=decoder)


class DecodePool:
    """At most `threads` jobs at a time, interactive ones first. A job that is cancelled while it waits leaves at once.

    A job whose image needs care goes to one of the careful threads, and starts again there.
    """

    def __init__(self, threads: int = 0, *, decoder: ImageDecoder | None = None, name: str = "decode") -> None:
        """Use `decoder` for all jobs of this pool. It is closed with the pool."""
        self.decoder = decoder or ImageDecoder(ImageLimits())
        self.threads = threads or cpu_count()
        self.name = name
        self._careful = LaneThreads(self.decoder.careful_threads, name=f"{name}-careful")
        self._quick = LaneThreads(self.threads, name=name, begin=be_quick, careful=self._careful)

    def start(self, jobs: Sequence[J], tell: Callable[[Sequence[J]], None], *, lane: Lane) -> None:
        """Hand jobs over to the threads, as `LaneThreads.start` does."""
        self._quick.start(jobs, tell, lane=lane)

    def prune(self) -> None:
        """Let go of all jobs that nobody wants any more."""
        self._quick.prune()
        self._careful.prune()

    async def run(self, function: Callable[..., T], *args: object, lane: Lane = Lane.INTERACTIVE) -> T:
        """Call `function(*args)` in a thread and wait for it.

        A job that has begun runs to its end even if cancelled.
        """
        return await self._quick.run(function, *args, lane=lane)

    def running(self) -> Sequence[Running]:
        """Return what the threads work on. Safe to call from any thread.

        Work of decoding processes is left out: if one hangs, it is ended and its image refused, and the service goes
        on.
        """
        jobs = {} if self.decoder.processes else self._quick.jobs
        return [Running(number, "an item has been in preparation", None, thread) for number, thread in jobs.items()]

    @property
    def lost(self) -> bool:
        """Always False: threads cannot be lost."""
        return False

    @property
    def waiting(self) -> int:
        """The number of jobs that no thread has begun."""
        return self._quick.waiting + self._careful.waiting

    async def close(self) -> None:
        """End the threads after their current jobs, and then the decoder's processes.

        Careful decoding may take minutes on a busy machine: it is given up after `CAREFUL_END_S` seconds.
        """
        careful = asyncio.create_task(asyncio.to_thread(self._careful.close))
        await asyncio.to_thread(self._quick.close)
        done, _ = await asyncio.wait([careful], timeout=CAREFUL_END_S)
        if not done:
            self.decoder.give_up()
        await careful
        await asyncio.to_thread(self.decoder.close)
