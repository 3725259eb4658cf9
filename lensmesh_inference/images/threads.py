"""Bounded threads with two lanes. Interactive jobs go first, and a job that is cancelled while it waits never runs."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lensmesh_chassis.concurrency import WaitingLine
from lensmesh_inference.batching.lanes import Lane

T = TypeVar("T")


class LaneThreads:
    """At most `count` jobs at a time, each in a thread."""

    def __init__(self, count: int, *, name: str, begin: Callable[[], None] = lambda: None) -> None:
        """Set the number of threads. `begin` is called in each thread before its first job."""
        self.count = count
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name, initializer=begin)
        self._jobs: dict[int, int] = {}
        self._numbers = itertools.count()
        self._free = count
        self._lines = {lane: WaitingLine(lambda _: self._next()) for lane in Lane}

    async def run(self, function: Callable[..., T], *args: object, lane: Lane) -> T:
        """Call `function(*args)` in a thread and wait for it.

        A job that has begun runs to its end even if cancelled.
        """
        await self._turn(lane)
        # In the caller's context, for what the thread logs.
        run = functools.partial(contextvars.copy_context().run, self._watched, function, *args)
        job = asyncio.get_running_loop().run_in_executor(self._executor, run)

        def over(ended: asyncio.Future[T]) -> None:
            # What went wrong is told to the caller, who may have left.
            if not ended.cancelled():
                ended.exception()
            self._next()

        # The thread is free when the job ends, not when its caller loses patience.
        job.add_done_callback(over)
        return await asyncio.shield(job)

    @property
    def jobs(self) -> Mapping[int, int]:
        """The numbers of the running jobs, and the threads that they run in. Safe to read from any thread."""
        return self._jobs.copy()

    @property
    def waiting(self) -> int:
        """The number of jobs that no thread has begun."""
        return sum(map(len, self._lines.values()))

    def close(self) -> None:
        """End the threads after their current jobs. Blocks."""
        self._executor.shutdown(cancel_futures=True)

    def _watched(self, function: Callable[..., T], *args: object) -> T:
        number = next(self._numbers)
        self._jobs[number] = threading.get_ident()
        try:
            return function(*args)
        finally:
            del self._jobs[number]

    async def _turn(self, lane: Lane) -> None:
        if self._free:
            self._free -= 1
            return
        await self._lines[lane].wait()

    def _next(self) -> None:
        for lane in Lane:
            if self._lines[lane]:
                self._lines[lane].wake()
                return
        self._free += 1
