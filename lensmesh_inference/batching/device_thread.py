"""The thread of a device: it computes one batch after the other, and tells the event loop of each."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Thread(Protocol):
    """A thread that a device's worker runs in."""

    def submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Have the thread call a function, after all before. Return what will have its result."""

    def end(self) -> None:
        """End the thread after what was submitted."""

    def join(self) -> None:
        """Wait until the thread has ended. Blocks."""


class DeviceThread:
    """A thread of its own, with half the work of an executor between the event loop and a batch.

    A process that ends waits for it, as for an executor's: torch's code, left in the middle, ends it with SIGABRT.
    """

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()
        atexit.register(self._finish)

    def submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Have the thread call a function, after all before. Return what will have its result."""
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._work.put((work, outcome))
        return outcome

    def end(self) -> None:
        """End the thread after what was submitted."""
        self._work.put(None)

    def join(self) -> None:
        """Wait until the thread has ended. Blocks."""
        self._thread.join()
        atexit.unregister(self._finish)

    def _finish(self) -> None:
        self.end()
        self._thread.join()

    def _serve(self) -> None:
        while (submitted := self._work.get()) is not None:
            _run(*submitted)
            # Or the thread would hold a batch and its answers until the next one.
            del submitted


def _run(work: Callable[[], T], outcome: asyncio.Future[T]) -> None:
    settle: Callable[[Any], None] = outcome.set_result
    result: T | BaseException
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
        settle, result = outcome.set_exception, error
    # The loop of a test, or of a process that ends, may be closed: nobody is left to be told.
    with contextlib.suppress(RuntimeError):
        outcome.get_loop().call_soon_threadsafe(_tell, outcome, settle, result)
    # An error knows this frame. If the frame knew the error, both would hold what the batch took of the device until
    # garbage is collected, and after OutOfMemory its halves would run without that.
    del work, outcome, settle, result


def _tell(outcome: asyncio.Future[Any], settle: Callable[[Any], None], result: object) -> None:
    if not outcome.done():
        settle(result)
