"""A device of a batcher: its worker, its thread, how large a batch it takes, and what it works on now."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from lensmesh_inference.batching.device_thread import DeviceThread, Thread
from lensmesh_inference.batching.lanes import QueuedItem
from lensmesh_inference.batching.running import Running

In = TypeVar("In")
Out = TypeVar("Out")

# So many batches in a row must fit before a device that ran out of memory is given larger ones again.
GROW_AFTER = 64

_log = logging.getLogger(__name__)


class Ran(NamedTuple, Generic[Out]):
    """The result of a batch. Times are in seconds of the batcher's clock, taken in the device's thread."""

    outputs: Sequence[Out]
    started: float
    seconds: float


class DeviceWorker(Generic[In, Out]):
    """A worker and its thread. It is used on the event loop; `worker` runs in the thread that `thread` makes."""

    def __init__(
        self,
        worker: Callable[[Sequence[In]], Sequence[Out]],
        *,
        number: int,
        name: str,
        max_batch: int,
        clock: Callable[[], float],
        thread: Callable[[str], Thread] = DeviceThread,
    ) -> None:
        self.number = number
        self.name = name
        self.limit = max_batch
        """The most items of a batch: as many as allowed, fewer after running out of memory."""
        self.lost = False
        self.own: dict[QueuedItem[In, Any], None] = {}
        """The items for this device alone, in the order of arrival."""
        self.batches = 0
        """The number of batches given to it so far."""
        self._worker = worker
        self._max_batch = max_batch
        self._good_batches = 0
        self._clock = clock
        self._make_thread = thread
        self._thread: Thread | None = None
        self._thread_id: int | None = None
        self._since = 0.0
        self._expected_s = 0.0
        self._running: tuple[int, int, bool] | None = None
        """The batch in the device: its number, how many items it has, and whether a similar one has run before."""

    def start(self) -> None:
        """Make the thread."""
        self._thread = self._make_thread(self.name)

    async def stop(self) -> None:
        """End the thread after its current batch. A lost device's thread may never end, and is not waited for."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.end()
            if not self.lost:
                await asyncio.to_thread(thread.join)

    def take_own(self) -> QueuedItem[In, Any]:
        """Take the first item out of `own` and return it."""
        entry = next(iter(self.own))
        del self.own[entry]
        return entry

    async def run(self, items: Sequence[In], number: int, expected_s: float, *, seen: bool) -> Ran[Out]:
        """Let the worker compute a batch. Raises what the worker raises.

        `seen` says whether a similar batch has run before. If not, the expected time is a guess.
        """
        assert self._thread is not None, "a batch is run between start and stop"
        self.batches += 1
        self._since, self._expected_s = self._clock(), expected_s
        self._running = number, len(items), seen
        try:
            # In the batch's context, for what the thread logs.
            return await self._thread.submit(functools.partial(contextvars.copy_context().run, self._work, items))
        finally:
            self._running = None

    def running(self) -> Running | None:
        """Return what the device works on. Safe to call from any thread."""
        running, expected_s = self._running, self._expected_s
        if running is None:
            return None
        number, items, seen = running
        what = f"a batch of {items} has been in the device"
        return Running(number, what, expected_s or None, self._thread_id, first=not seen)

    def running_s(self, now: float) -> float:
        """Return the seconds that its batch has run; 0 when idle."""
        return max(0.0, now - self._since) if self._running else 0.0

    def remaining_s(self, now: float) -> float:
        """Return the seconds that its batch will still run; 0 when idle.

        A batch that has run longer than predicted is expected to exceed its prediction by as much again.
        """
        return abs(self._expected_s - self.running_s(now)) if self._running else 0.0

    def ran_out_of_memory(self, items: int) -> None:
        """Halve the batch limit: a batch of so many items did not fit."""
        if self.limit == self._max_batch:
            _log.warning("%s ran out of memory on a batch of %d: smaller ones from now on", self.name, items)
        self.limit = max(1, min(self.limit, items) // 2)
        self._good_batches = 0

    def went_well(self) -> None:
        """Count a batch that fitted. After many, batches twice as large are tried."""
        if self.limit == self._max_batch:
            return
        self._good_batches += 1
        if self._good_batches >= GROW_AFTER:
            self._good_batches = 0
            self.limit = min(self._max_batch, self.limit * 2)
            if self.limit == self._max_batch:
                _log.info("%s takes batches of %d again", self.name, self.limit)

    def _work(self, items: Sequence[In]) -> Ran[Out]:
        self._thread_id = threading.get_ident()
        started = self._clock()
        try:
            outputs = self._worker(items)
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, StopIteration):
                raise
            # What would end the event loop's task, or could not be raised in it, is one more fault of a model.
            raise RuntimeError(f"{self.name} was left by {type(error).__name__}") from error
        return Ran(outputs, started, self._clock() - started)
