"""One computation of what several callers want at the same time.

A caller who asks for something that is being computed waits for it. The computation belongs to no caller: it lives as
long as any caller waits, and is cancelled when none does. Three rules protect a caller from the others:

- An interactive caller does not wait in the bulk lane. It starts another computation in its own lane, and the first of
  the two that is done answers everybody and ends the other. So what a device has nearly finished is used, and what
  would wait long is overtaken.
- A failure goes to the caller whose computation it was. Others try on their own: their deadlines may be later, and a
  bad image has another name in their request. Only what the model itself fails on fails for all.
- A caller's own deadline ends its waiting for another one's computation.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lensmesh_chassis.errors import DeadlineExceeded, InternalFault
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.batching.lanes import Lane

T = TypeVar("T")
Computation = Callable[[], Coroutine[Any, Any, T]]


@dataclass(frozen=True)
class SharedResult(Generic[T]):
    """A result. `own` says whether the caller's own computation made it."""

    value: T
    own: bool


class _Call(Generic[T]):
    """The computation of one key: usually one run, or two while an interactive one overtakes a bulk one."""

    def __init__(self, over: Callable[[_Call[T]], None]) -> None:
        self._over = over
        # Every caller by the future that it waits for, with the run that it started.
        self._waiting: dict[asyncio.Future[asyncio.Task[T]], asyncio.Task[T] | None] = {}
        self._runs: dict[asyncio.Task[T], Lane] = {}

    async def join(self, lane: Lane, deadline: float | None, compute: Computation[T]) -> tuple[asyncio.Task[T], bool]:
        """Wait until a run ends that concerns this caller. Return it, and whether it is this caller's own.

        A run is started where none is in as good a lane; the queue then watches the deadline. Raises ``TimeoutError``
        where the deadline passes while others' runs are waited for.
        """
        run: asyncio.Task[T] | None = None
        if all(lane < other for other in self._runs.values()):
            run = asyncio.create_task(compute())
            self._runs[run] = lane
            run.add_done_callback(self._run_ended)
        news: asyncio.Future[asyncio.Task[T]] = asyncio.get_running_loop().create_future()
        self._waiting[news] = run
        try:
            async with asyncio.timeout_at(deadline if run is None else None):
                ended = await news
            return ended, ended is run
        finally:
            del self._waiting[news]
            if not self._waiting:
                self._end()

    def _run_ended(self, run: asyncio.Task[T]) -> None:
        self._runs.pop(run, None)
        error = asyncio.CancelledError() if run.cancelled() else run.exception()
        settled = error is None or isinstance(error, InternalFault) or not self._runs
        for news, own in self._waiting.items():
            if (settled or own is run) and not news.done():
                news.set_result(run)
        if settled:
            self._end()

    def _end(self) -> None:
        self._over(self)
        for run in self._runs:
            run.cancel()


class SingleFlight(Generic[T]):
    """The computations that are under way, by key."""

    def __init__(self) -> None:
        self._calls: dict[str, _Call[T]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    async def share(self, key: str, lane: Lane, deadline: float | None, compute: Computation[T]) -> SharedResult[T]:
        """Return the result of `compute()`, or of an equal computation that is under way.

        `deadline` is a time of the event loop's clock. Raises what this caller's own computation raises, what the model
        fails with on this very content, and ``DeadlineExceeded`` where the deadline passes while another computation is
        waited for.
        """
        while True:
            call = self._calls.get(key)
            if call is None:
                call = self._calls[key] = _Call(functools.partial(self._forget, key))
            try:
                run, own = await call.join(lane, deadline, compute)
            except TimeoutError:
                message = "Its deadline passed while the same content was computed for another caller."
                raise DeadlineExceeded(Reason.DEADLINE_EXCEEDED, message) from None
            error = asyncio.CancelledError() if run.cancelled() else run.exception()
            if own or error is None or isinstance(error, InternalFault):
                return SharedResult(run.result(), own)
            if not isinstance(error, DeadlineExceeded):
                return SharedResult(await compute(), own=True)

    def _forget(self, key: str, call: _Call[T]) -> None:
        # Another one may have begun under its key meanwhile.
        if self._calls.get(key) is call:
            del self._calls[key]
