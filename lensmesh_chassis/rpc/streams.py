"""The one engine behind every bidirectional stream. It is bounded, answers as items are ready, drains and cleans up."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, nullcontext
from typing import Any, Generic, TypeVar

from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.reasons import Reason

T = TypeVar("T")
R = TypeVar("R")


async def answer_as_ready(
    items: AsyncIterator[T],
    answer: Callable[[T], Awaitable[R]],
    *,
    size_of: Callable[[T], int],
    max_items: int,
    max_bytes: int,
    draining: asyncio.Event,
    max_group: int = 64,
) -> AsyncIterator[list[R]]:
    """Run `answer(item)` for many items at once and yield the answers as they are ready, in groups of 1 to `max_group`.

    An item is in flight from being read until its answer is yielded. No item is read while `max_items` or at least
    `max_bytes` (by `size_of`) are in flight. So a consumer that takes no answers stops the reading too. An item's size
    is known only once it is read: the bytes in flight exceed `max_bytes` by less than one item.

    However reading ends, what was read is answered first. Then, at the end of `items`, the iteration ends. An exception
    out of `items` or `answer` is raised. Once `draining` is set nothing more is read and, unless `items` had ended,
    Unavailable with reason DRAINING is raised. `answer` turns an item's own failure into an answer: what it raises ends
    the stream.

    Closing or cancelling the iteration cancels all that runs and waits for it.
    """
    engine = _Engine(answer, size_of, max_items, max_bytes)
    reader = asyncio.create_task(engine.read(items))
    reader.add_done_callback(lambda _: engine.changed.set())
    drain = asyncio.create_task(_stop_when(draining, reader))
    try:
        while not (reader.done() and engine.idle):
            await engine.changed.wait()
            engine.changed.clear()
            if engine.failure is not None:
                reader.cancel()
            while group := engine.take(max_group):
                yield group
        if engine.failure is not None:
            raise engine.failure
        if reader.cancelled() and draining.is_set():
            raise Unavailable(
                Reason.DRAINING, "the service is shutting down: send what has no answer again, on a new call"
            )
        await reader  # raises what ended the reading
    finally:
        leftovers = [reader, drain, *engine.running]
        for task in leftovers:
            task.cancel()
        await asyncio.gather(*leftovers, return_exceptions=True)


async def _stop_when(draining: asyncio.Event, reader: "asyncio.Task[None]") -> None:
    await draining.wait()
    reader.cancel()


class _Engine(Generic[T, R]):
    """Work in flight: tasks that run, answers that wait to be yielded, and the room that is left."""

    def __init__(
        self, answer: Callable[[T], Awaitable[R]], size_of: Callable[[T], int], max_items: int, max_bytes: int
    ) -> None:
        if max_items < 1 or max_bytes < 1:
            raise ValueError("max_items and max_bytes must be at least 1")
        self._answer, self._size_of = answer, size_of
        self._max_items, self._max_bytes = max_items, max_bytes
        self._items, self._bytes = 0, 0
        self._ready: deque[tuple[R, int]] = deque()
        self._room = asyncio.Event()
        self.running: set[asyncio.Task[None]] = set()
        self.changed = asyncio.Event()
        self.failure: BaseException | None = None

    @property
    def idle(self) -> bool:
        """Whether everything that was read has been yielded."""
        return not self.running and not self._ready

    async def read(self, items: AsyncIterator[T]) -> None:
        """Start an answer for each item, while there is room."""
        # A generator that is left in the middle has to be closed, and in the task that ran it.
        closing: Any = aclosing(items) if hasattr(items, "aclose") else nullcontext()
        async with closing:
            async for item in items:
                size = self._size_of(item)
                self._items += 1
                self._bytes += size
                task = asyncio.create_task(self._run(item, size))
                self.running.add(task)
                task.add_done_callback(self._ended)
                while self._items >= self._max_items or self._bytes >= self._max_bytes:
                    self._room.clear()
                    await self._room.wait()

    async def _run(self, item: T, size: int) -> None:
        self._ready.append((await self._answer(item), size))

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self.running.discard(task)
        if task.cancelled():
            # By us, and nobody looks any more; or from within `answer`, and then an answer is missing.
            self.failure = self.failure or asyncio.CancelledError("an answer was cancelled from within")
        elif (error := task.exception()) is not None:
            self.failure = self.failure or error
        self.changed.set()

    def take(self, most: int) -> list[R]:
        """Return up to `most` answers that are ready; their room is free again."""
        group: list[R] = []
        while self._ready and len(group) < most:
            result, size = self._ready.popleft()
            self._items -= 1
            self._bytes -= size
            group.append(result)
        if group:
            self._room.set()
        return group
