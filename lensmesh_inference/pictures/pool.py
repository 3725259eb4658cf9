"""Bounded threads for decoding and tokenizing: never on the event loop, never in the device's thread."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lensmesh_inference.batching.lanes import Lane
from lensmesh_inference.batching.running import Running
from lensmesh_inference.devices import DeviceFacts, cpu_count
from lensmesh_inference.pictures.decoder import PictureDecoder, choose_processes
from lensmesh_inference.pictures.limits import ImageLimits
from lensmesh_inference.settings import ModelServiceSettings

T = TypeVar("T")


def open_pool(settings: ModelServiceSettings, devices: Iterable[DeviceFacts]) -> DecodePool:
    """A pool as the settings of a service say, for models on these devices."""
    processes = choose_processes(settings.decode_processes, on_gpu=any(one.id != "cpu" for one in devices))
    decoder = PictureDecoder(settings.image_limits, scaled=settings.scaled_decoding, processes=processes)
    return DecodePool(settings.decode_threads or decoder.threads, decoder=decoder)


class DecodePool:
    """At most `threads` jobs at a time, interactive ones first. What waits here leaves at once when it is cancelled."""

    def __init__(self, threads: int = 0, *, decoder: PictureDecoder | None = None, name: str = "decode") -> None:
        """What runs here decodes with `decoder`, which is closed with the pool."""
        self.decoder = decoder or PictureDecoder(ImageLimits())
        self.threads = threads or cpu_count()
        self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix=name)
        self.name = name
        self._jobs: dict[int, int] = {}
        self._numbers = itertools.count()
        self._free = self.threads
        self._waiting: dict[Lane, deque[asyncio.Future[None]]] = {lane: deque() for lane in Lane}

    async def run(self, function: Callable[..., T], *args: object, lane: Lane = Lane.INTERACTIVE) -> T:
        """Call `function(*args)` in a thread and wait for it.

        A job that has begun runs to its end even if cancelled.
        """
        await self._turn(lane)
        # In the caller's context, for what the thread logs.
        run = functools.partial(contextvars.copy_context().run, self._watched, function, *args)
        job = asyncio.get_running_loop().run_in_executor(self._executor, run)
        # The thread is free when the job ends, not when its caller loses patience.
        job.add_done_callback(lambda _: self._next())
        return await asyncio.shield(job)

    def _watched(self, function: Callable[..., T], *args: object) -> T:
        number = next(self._numbers)
        self._jobs[number] = threading.get_ident()
        try:
            return function(*args)
        finally:
            del self._jobs[number]

    def running(self) -> Sequence[Running]:
        """What the threads work on. May be read from any thread.

        Nothing where processes decode: one that hangs is ended for the picture's sake, and not the service.
        """
        jobs = {} if self.decoder.processes else self._jobs.copy()
        return [Running(number, "an item has been in preparation", None, thread) for number, thread in jobs.items()]

    @property
    def lost(self) -> bool:
        """Never: threads do not get lost."""
        return False

    async def _turn(self, lane: Lane) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[lane].append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._next()
            raise

    def _next(self) -> None:
        for lane in Lane:
            while self._waiting[lane]:
                turn = self._waiting[lane].popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self._free += 1

    @property
    def waiting(self) -> int:
        """Jobs that no thread has begun."""
        return sum(not turn.done() for lane in self._waiting.values() for turn in lane)

    async def close(self) -> None:
        """End the threads after the jobs that they are in, and then the decoder's processes."""
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)
        await asyncio.to_thread(self.decoder.close)
