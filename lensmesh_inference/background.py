"""Long work that the end of the process does not wait for."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_daemon_thread(function: Callable[..., T], *args: object) -> T:
    """Call `function(*args)` in a separate thread and wait for it: to load a model, say, or to fetch its weights.

    `asyncio.to_thread` would keep a process that is told to stop alive until the function returns. Cancelling this call
    leaves the thread behind, and the process ends without it.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)  # type: ignore[arg-type]  # None only where T is

    def work() -> None:
        value, error = None, None
        try:
            value = function(*args)
        except BaseException as caught:  # noqa: BLE001 - it is raised where the result is awaited
            error = caught
        # The loop may have been closed meanwhile, with nobody left to tell.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=work, name=f"background-{getattr(function, '__name__', 'work')}", daemon=True).start()
    return await future
