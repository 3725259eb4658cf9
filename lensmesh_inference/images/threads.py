"""Bounded threads with two lanes. Threads take the jobs of a chunk one by one, and those of interactive chunks first.

The event loop hands over a chunk, however many jobs it has. As many threads work on it as are free, each takes the next
job when it is done with one, and tells of several at a time. So no thread idles while jobs wait, none has a share that
it cannot give away, and a job that nobody wants any more is never begun.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, Generic, Protocol, TypeVar, cast

from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.batching.lanes import Lane
from lensmesh_inference.images.care import NeedsCareError

T = TypeVar("T")

_log = logging.getLogger(__name__)

# So long the threads work on one chunk while others of its lane wait; then it is the turn of the next.
TURN_S: Final = 0.02
# A thread tells of bulk jobs that have ended after so long, together: waking the event loop costs as much as a small
# job, and what comes together is computed together.
_TELL_S: Final = 0.015


class Job(Protocol):
    """The work of a thread on one item. It keeps what comes of it."""

    @property
    def wanted(self) -> bool:
        """True while anybody still waits for it. It is asked right before the job begins, in the thread too."""

    @property
    def long(self) -> bool:
        """True where it may take long: the thread tells of what it has done before it begins."""

    def run(self) -> None:
        """Do the work. Raises nothing but ``NeedsCareError``, and is then run again in a careful thread."""

    def refuse(self, error: Exception) -> None:
        """Keep the reason why it will not be run."""


J = TypeVar("J", bound=Job)


class JobChunk(Generic[J]):
    """Jobs that came together. `tell` is called on the event loop with those that have ended, some at a time.

    All chunks of a pool are of one event loop.
    """

    def __init__(self, jobs: Iterable[J], tell: Callable[[Sequence[J]], None], lane: Lane) -> None:
        self.jobs = deque(jobs)
        self.lane = lane
        self.turn_ends: float | None = None
        # For what the threads log.
        self.context = contextvars.copy_context()
        self.tell = tell
        self.loop = asyncio.get_running_loop()

    def of(self, job: J) -> JobChunk[J]:
        """Return a chunk of one of its jobs, which another thread shall run."""
        other: JobChunk[J] = JobChunk.__new__(JobChunk)
        other.jobs, other.lane, other.turn_ends = deque([job]), self.lane, None
        other.context, other.tell, other.loop = self.context, self.tell, self.loop
        return other


class LaneThreads:
    """At most `count` jobs at a time, each in a thread."""

    def __init__(
        self, count: int, *, name: str, begin: Callable[[], None] = lambda: None, careful: LaneThreads | None = None
    ) -> None:
        """Set the number of threads. `begin` is called in each thread before its first job.

        `careful` are the threads that run a job which raises ``NeedsCareError`` here.
        """
        self.count = count
        self._careful = careful
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name, initializer=begin)
        self._running: dict[int, int] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._free = count
        self._lines: Mapping[Lane, deque[JobChunk[Any]]] = {lane: deque() for lane in Lane}
        self._closed = False

    def start(self, jobs: Iterable[J], tell: Callable[[Sequence[J]], None], *, lane: Lane) -> None:
        """Hand jobs over to the threads. `tell` is called with each of them once it has ended.

        A job that has begun runs to its end. One that is no longer wanted before is never told.
        """
        self.put(JobChunk(jobs, tell, lane))

    def put(self, chunk: JobChunk[Any]) -> None:
        """Put a chunk in its line, from any thread."""
        with self._lock:
            if not self._closed:
                self._lines[chunk.lane].append(chunk)
                more = min(self._free, len(chunk.jobs))
                self._free -= more
                for _ in range(more):
                    self._executor.submit(self._serve)
                return
        _refuse([chunk])

    async def run(self, function: Callable[..., T], *args: object, lane: Lane) -> T:
        """Call `function(*args)` in a thread and wait for it.

        A job that has begun runs to its end even if cancelled.
        """
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        call = _Call(function, args)

        def tell(_: Sequence[_Call]) -> None:
            if not over.done():
                over.set_result(None)

        self.start([call], tell, lane=lane)
        try:
            await over
        except asyncio.CancelledError:
            call.wanted = False
            self.prune()
            raise
        if call.error is not None:
            raise call.error
        return cast("T", call.value)

    def prune(self) -> None:
        """Let go of all jobs that nobody wants any more."""
        with self._lock:
            for line in self._lines.values():
                for chunk in line:
                    chunk.jobs = deque(job for job in chunk.jobs if job.wanted)

    @property
    def jobs(self) -> Mapping[int, int]:
        """The numbers of the running jobs, and the threads that they run in. Safe to read from any thread."""
        return self._running.copy()

    @property
    def waiting(self) -> int:
        """The number of jobs that are wanted and that no thread has begun."""
        with self._lock:
            return sum(job.wanted for line in self._lines.values() for chunk in line for job in chunk.jobs)

    def close(self) -> None:
        """End the threads after their current jobs, and refuse what waits. Blocks."""
        with self._lock:
            self._closed = True
            left = [chunk for line in self._lines.values() for chunk in line]
            for line in self._lines.values():
                line.clear()
        _refuse(left)
        self._executor.shutdown()

    def _serve(self) -> None:
        """Run jobs as long as there are any, in one of the threads."""
        ended: list[tuple[JobChunk[Any], Any]] = []
        tell_at = 0.0
        while (taken := self._take()) is not None:
            chunk, job = taken
            if ended and job.long:
                _tell(ended)
            if self._run(chunk, job):
                now = time.monotonic()
                if not ended:
                    tell_at = now + _TELL_S
                ended.append(taken)
                if chunk.lane is Lane.INTERACTIVE or now >= tell_at:
                    _tell(ended)
        if ended:
            _tell(ended)

    def _take(self) -> tuple[JobChunk[Any], Any] | None:
        """Return the next job and its chunk. Without one this thread is free."""
        with self._lock:
            while (line := next(filter(None, self._lines.values()), None)) is not None:
                chunk = line[0]
                if len(line) > 1 and chunk.turn_ends is not None and time.monotonic() > chunk.turn_ends:
                    line.rotate(-1)
                    chunk.turn_ends = None
                    continue
                if chunk.turn_ends is None:
                    chunk.turn_ends = time.monotonic() + TURN_S
                while chunk.jobs:
                    job = chunk.jobs.popleft()
                    if job.wanted:
                        if not chunk.jobs:
                            line.popleft()
                        return chunk, job
                line.popleft()
            self._free += 1
            return None

    def _run(self, chunk: JobChunk[Any], job: Any) -> bool:
        """Run one job. Return whether it has ended, and was not given to a careful thread."""
        number = next(self._numbers)
        self._running[number] = threading.get_ident()
        try:
            # A context can be entered by one thread at a time.
            chunk.context.copy().run(job.run)
        except NeedsCareError:
            assert self._careful is not None, "careful threads need no more care"
            self._careful.put(chunk.of(job))
            return False
        except Exception as error:  # noqa: BLE001 - a job that has a fault may cost its item, and no thread
            _log.exception("a job of %s raised", threading.current_thread().name)
            job.refuse(error)
        finally:
            del self._running[number]
        return True


class _Call:
    """A function as a job."""

    def __init__(self, function: Callable[..., Any], args: tuple[object, ...]) -> None:
        self._function, self._args = function, args
        self.wanted, self.long = True, True
        self.value: object = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Call the function."""
        try:
            self.value = self._function(*self._args)
        except NeedsCareError:
            raise
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            self.error = error

    def refuse(self, error: Exception) -> None:
        """Fail with this error."""
        self.error = error


def _tell(ended: list[tuple[JobChunk[Any], Any]]) -> None:
    """Tell of jobs that have ended, each with its chunk, from any thread; the list is empty then."""
    by_chunk: dict[JobChunk[Any], list[Any]] = {}
    for chunk, job in ended:
        by_chunk.setdefault(chunk, []).append(job)
    ended.clear()
    # The loop of a test, or of a process that ends, may be closed: nobody is left to be told.
    with suppress(RuntimeError):
        next(iter(by_chunk)).loop.call_soon_threadsafe(_tell_here, by_chunk)


def _tell_here(by_chunk: Mapping[JobChunk[Any], Sequence[Any]]) -> None:
    for chunk, jobs in by_chunk.items():
        chunk.tell(jobs)


def _refuse(chunks: Sequence[JobChunk[Any]]) -> None:
    for chunk in chunks:
        for job in chunk.jobs:
            job.refuse(Unavailable(Reason.DRAINING, "The service is shutting down: send it again."))
    if left := [(chunk, job) for chunk in chunks for job in chunk.jobs]:
        _tell(left)
