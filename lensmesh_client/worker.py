"""A thread for a caller's own code, which may block for as long as it likes."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Worker:
    """Runs functions one after another in a daemon thread: unlike an executor's, it keeps no process from ending."""

    def __init__(self, name: str) -> None:
        self._tasks: queue.SimpleQueue[tuple[asyncio.Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Await what `function` returns or raises in the thread."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._tasks.put((future, lambda: function(*args, **kwargs)))
        return await future

    def close(self) -> None:
        """End the thread after what it is doing, without waiting for that."""
        self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, function = task
            try:
                result, error = function(), None
            except BaseException as raised:  # noqa: BLE001 - whoever awaits it gets it
                result, error = None, raised
            try:
                future.get_loop().call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:
                # The loop is closed: nobody waits any more.
                return
            # The last result, an image perhaps, is not held while the next task is waited for.
            del task, future, function, result, error


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
