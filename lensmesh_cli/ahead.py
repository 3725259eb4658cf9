"""Iteration in daemon threads, for iterators that may hang: Ctrl-C and the end of the program wait for none of them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

T = TypeVar("T")

_LOOK_S = 0.2


class _End(Generic[T]):
    """The iterator's end, and the error that ended it early."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Ahead(Generic[T]):
    """An iterator that steps through an iterable up to `most` elements ahead of its consumer, until it is closed."""

    def __init__(self, elements: Iterable[T], most: int) -> None:
        self._elements = elements
        self._queue: Queue[T | _End[T]] = Queue(most)
        self._closed = threading.Event()
        self.news: asyncio.Event | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        threading.Thread(target=self._work, name="lensmesh-ahead", daemon=True).start()

    def close(self) -> None:
        """End the thread at its next step."""
        self._closed.set()

    def __iter__(self) -> Iterator[T]:
        while not self._closed.is_set():
            with contextlib.suppress(Empty):
                element = self._queue.get(timeout=_LOOK_S)
                if isinstance(element, _End):
                    if element.error is not None:
                        raise element.error
                    return
                yield element

    async def __aiter__(self) -> AsyncIterator[T]:
        self.loop, self.news = asyncio.get_running_loop(), asyncio.Event()
        while True:
            try:
                element = self._queue.get_nowait()
            except Empty:
                self.news.clear()
                # What came between the look and the clearing made no news.
                if self._queue.empty():
                    await self.news.wait()
                continue
            if isinstance(element, _End):
                if element.error is not None:
                    raise element.error
                return
            yield element

    def _work(self) -> None:
        try:
            for element in self._elements:
                if not self._put(element):
                    return
            self._put(_End())
        except BaseException as error:  # noqa: BLE001  # it belongs to whoever takes the elements
            self._put(_End(error))

    def _put(self, element: T | _End[T]) -> bool:
        while not self._closed.is_set():
            with contextlib.suppress(Full):
                self._queue.put(element, timeout=_LOOK_S)
                if self.loop is not None and self.news is not None:
                    # The loop may have ended with its command.
                    with contextlib.suppress(RuntimeError):
                        self.loop.call_soon_threadsafe(self.news.set)
                return True
        return False
