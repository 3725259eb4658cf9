"""Threads in which large messages are taken apart and put together, beside the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
# Below this a hand-over costs more than the work: some hundred microseconds of translation.
SMALL_BYTES = 32 * 1024


class Threads:
    """A few named threads."""

    def __init__(self, name: str = "search-translate") -> None:
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix=name)

    async def run(self, work: Callable[[], T], size_bytes: int) -> T:
        """Do `work`: here if it is small, in a thread if it is not."""
        if size_bytes < SMALL_BYTES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def stop(self) -> None:
        """End the threads; what they do is finished first."""
        self._pool.shutdown(wait=False, cancel_futures=True)
