"""The one engine behind every bidirectional stream. It is bounded, answers as items are ready, drains and cleans up."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, nullcontext
from typing import Any, Generic, Protocol, TypeVar

from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.reasons import Reason

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class AnswersChunk(Protocol[T_contra, R_co]):
    """Whatever answers a chunk: items of a stream that were read together."""

    async def __call__(self, chunk: Sequence[T_contra], give: Callable[[int, R_co], None], /) -> None:
        """Call `give` with the index and the answer of each item, as they are ready, and return when all are given."""


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
    """Do as `answer_chunks` does, for items that are read and answered one by one."""

    async def one_by_one() -> AsyncIterator[Sequence[T]]:
        async with _closing(items):
            async for item in items:
                yield [item]

    async def answer_one(chunk: Sequence[T], give: Callable[[int, R], None]) -> None:
        give(0, await answer(chunk[0]))

    groups: Any = answer_chunks(
        one_by_one(),
        answer_one,
        size_of=size_of,
        max_items=max_items,
        max_bytes=max_bytes,
        draining=draining,
        max_group=max_group,
    )
    async with aclosing(groups):
        async for group in groups:
            yield group


async def answer_chunks(
    messages: AsyncIterator[Sequence[T]],
    answer: AnswersChunk[T, R],
    *,
    size_of: Callable[[T], int],
    max_items: int,
    max_bytes: int,
    draining: asyncio.Event,
    max_group: int = 64,
) -> AsyncIterator[list[R]]:
    """Run `answer` for many chunks at once and yield the answers as they are ready, in groups of 1 to `max_group`.

    A chunk is what a message has, or the part of it that there is room for. An item is in flight from being read until
    its answer is yielded. No item is read while `max_items` or at least `max_bytes` (by `size_of`) are in flight. So a
    consumer that takes no answers stops the reading too. The bytes in flight exceed `max_bytes` by less than one item.

    However reading ends, what was read is answered first. Then, at the end of `messages`, the iteration ends. An
    exception out of `messages` or `answer` is raised. Once `draining` is set nothing more is read and, unless
    `messages` had ended, Unavailable with reason DRAINING is raised. `answer` turns an item's own failure into an
    answer: what it raises ends the stream.

    Closing or cancelling the iteration cancels all that runs and waits for it.
    """
    engine = _Engine(answer, size_of, max_items, max_bytes)
    reader = asyncio.create_task(engine.read(messages))
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


def _closing(source: Any) -> Any:
    # A generator that is left in the middle has to be closed, and in the task that ran it.
    return aclosing(source) if hasattr(source, "aclose") else nullcontext()


class _Engine(Generic[T, R]):
    """Work in flight: tasks that run, answers that wait to be yielded, and the room that is left."""

    def __init__(self, answer: AnswersChunk[T, R], size_of: Callable[[T], int], max_items: int, max_bytes: int) -> None:
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
        """True where everything that was read has been yielded."""
        return not self.running and not self._ready

    async def read(self, messages: AsyncIterator[Sequence[T]]) -> None:
        """Start answers for the items of each message, as far as there is room."""
        async with _closing(messages):
            async for message in messages:
                first = 0
                while first < len(message):
                    sizes = self._take_in(message, first)
                    task = asyncio.create_task(self._run(message[first : first + len(sizes)], sizes))
                    self.running.add(task)
                    task.add_done_callback(self._ended)
                    first += len(sizes)
                    while self._full:
                        self._room.clear()
                        await self._room.wait()

    @property
    def _full(self) -> bool:
        return self._items >= self._max_items or self._bytes >= self._max_bytes

    def _take_in(self, message: Sequence[T], first: int) -> list[int]:
        """Count items of a message as in flight, from `first` on until there is no room. Return their sizes."""
        sizes = []
        for item in message[first:]:
            size = self._size_of(item)
            sizes.append(size)
            self._items += 1
            self._bytes += size
            if self._full:
                break
        return sizes

    async def _run(self, chunk: Sequence[T], sizes: Sequence[int]) -> None:
        def give(index: int, result: R) -> None:
            self._ready.append((result, sizes[index]))
            self.changed.set()

        await self._answer(chunk, give)

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
