"""Calls of a media store that are waited for as long as allowed, and then left to themselves.

A folder on a network that hangs keeps a thread for each call, whoever gives it up. So calls that have not ended count,
and no more than a bounded number is begun.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from router_svc.media.store import MediaError

T = TypeVar("T")


class BoundedCalls:
    """At most `most` calls at a time, each waited for `within_s` seconds."""

    def __init__(self, most: int, within_s: float) -> None:
        self._most = most
        self._within_s = within_s
        self._running: set[asyncio.Task[Any]] = set()

    @property
    def free(self) -> int:
        """The number of calls that may begin now."""
        return self._most - len(self._running)

    async def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Return what a call returns. Raises what it raises, and ``MediaError`` where it takes too long or is too much.

        A call whose caller is cancelled goes on.
        """
        if self.free <= 0:
            call.close()
            raise MediaError(f"{self._most} calls have not ended")
        task = asyncio.create_task(call)
        self._running.add(task)
        task.add_done_callback(self._ended)
        done, _ = await asyncio.wait({task}, timeout=self._within_s)
        if not done:
            raise MediaError(f"does not answer within {self._within_s:g} s")
        return task.result()

    async def close(self) -> None:
        """Wait no longer for any call."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(set(self._running))

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            # Read, so that nobody warns of an error that came too late.
            task.exception()
