"""Items without end: one stream at a time, opened again where it breaks, each item answered exactly once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import DecodeError

from lensmesh_chassis.errors import (
    Cancelled,
    DeadlineExceeded,
    InternalFault,
    LensmeshError,
    Overloaded,
    Unavailable,
    UpstreamFault,
)
from lensmesh_chassis.reasons import Reason
from lensmesh_client.connection import Connection
from lensmesh_client.guard import unreadable
from lensmesh_client.ownership import closed
from lensmesh_client.silence import Silence
from lensmesh_client.window import Entry, Referable, Window

R = TypeVar("R")

FIRST_DELAY_S, LONGEST_DELAY_S = 0.1, 5.0
# What a last stream gets where waiting has used up the patience.
LAST_TRY_S = 2.0
# Streams that an item may end, alone on them, before it is given up: where the server says that the message is at
# fault, and where the connection was lost without a word, which a router that is restarted does as well.
STRIKES, STRIKES_UNEXPLAINED = 2, 3
# What grpc.aio says, in place of the server's own status, when a write meets a stream that the server has just ended.
WRITE_MET_THE_END = "Internal error from Core"
HIDDEN = "the stream broke while items were being sent"
# Time for a refusal to arrive before the first write that could hide it; doubled each time it was not enough.
FIRST_CAUTION_S, LONGEST_CAUTION_S = 0.1, 3.0


@dataclass(frozen=True, slots=True)
class Persistence:
    """Limits of how long a bulk stream keeps trying."""

    patience_s: float
    """Without one answer, over any number of broken streams."""
    attempts: int
    """Sendings of one item whose errors carry a retry delay."""
    deadline: float | None
    """Loop time at which all must be done."""
    on_resume: Callable[[LensmeshError, int], None] | None
    """Told of each broken stream: why, and how many items are sent again."""
    on_wait: Callable[[str, int], None] | None = None
    """Told now and then while nothing is answered: what is waited for, and how many items wait."""


def resumable(error: LensmeshError) -> bool:
    """Tell whether a new stream can do better: the peer went away, drains, or gave up. A refusal stays one."""
    return isinstance(error, Overloaded | Unavailable | Cancelled | InternalFault | UpstreamFault)


def of_a_message(error: LensmeshError) -> bool:
    """Tell whether the error says that one message was at fault: the stream goes on without the item in it."""
    return error.reason in (Reason.MESSAGE_MALFORMED, Reason.MESSAGE_TOO_LARGE)


def may_be_an_items(error: LensmeshError) -> bool:
    """Tell whether one item may have ended the stream: no status that explains it came from the router."""
    return of_a_message(error) or error.reason in (Reason.UNKNOWN, Reason.INTERNAL)


class _Loss:
    """Streams that broke one after another without an answer on any of them."""

    def __init__(self, error: LensmeshError, give_up_at: float, before: _Loss | None) -> None:
        self.error: LensmeshError = before.error if before is not None and error.message == HIDDEN else error
        """The error of the last one that told why it broke."""
        self.give_up_at = give_up_at
        """Loop time."""
        self._failures: int = 0 if before is None else before._failures + 1

    def last_try_ends(self, now: float) -> float:
        """Return the loop time until which a stream that is opened `now` may stay without an answer."""
        return max(self.give_up_at, now + LAST_TRY_S)

    @property
    def delay_s(self) -> float:
        """Time to wait before the next one."""
        delay = min(FIRST_DELAY_S * 2.0**self._failures, LONGEST_DELAY_S) * random.uniform(0.5, 1.0)
        return max(delay, self.error.retry_after_s or 0.0)


@dataclass(frozen=True, slots=True)
class BulkMethod(Generic[R]):
    """A streaming method of the contracts: what is sent, and what its answers mean."""

    name: str
    """For people: "ingest"."""
    open: Callable[[AsyncIterator[Any], float | None], Any]
    """Begins a stream of requests with a deadline in seconds."""
    options: Any
    """The first request."""
    items: Callable[[list[Referable]], Any]
    """A request with these items."""
    result: Callable[[Entry, Any], R | LensmeshError]
    """Function that returns what one answer says about its item."""
    failed: Callable[[Entry, LensmeshError], R]
    """The result of an item that has failed for good."""


class BulkStream(Generic[R]):
    """Sends a window's entries and turns answers into results."""

    def __init__(
        self,
        connection: Connection,
        method: BulkMethod[R],
        window: Window,
        persistence: Persistence,
        context: Context,
    ) -> None:
        # A generator's own context changes with whoever takes its next value; the streams belong to one trace.
        self._context = context
        self._connection = connection
        self._method = method
        self._window = window
        self._persistence = persistence
        self._results: asyncio.Queue[tuple[Entry, R] | None] = asyncio.Queue()
        self._answers = 0
        self._streams = 0
        """Goes up where a stream begins and where it ends."""
        self._patience: asyncio.Timeout = asyncio.timeout(None)
        self._silence = Silence(connection, window)
        self._caution_s = 0.0
        """Above 0 where the last stream's end was hidden by a write: were it a refusal, the next one should show it."""

    async def run(self, feed: Callable[[], Coroutine[None, None, None]]) -> AsyncGenerator[R]:
        """Yield results as they become final. `feed` admits the caller's items; its error comes after their answers."""
        feeder = asyncio.create_task(self._fed(feed), context=self._context.copy())
        pump = asyncio.create_task(self._pump(), context=self._context.copy())
        tell = self._persistence.on_wait
        told = asyncio.create_task(self._silence.tell(tell), context=self._context.copy()) if tell else None
        # The input has ended before the pump does, so nothing comes after this mark.
        pump.add_done_callback(lambda _: self._results.put_nowait(None))
        try:
            while (settled := await self._results.get()) is not None:
                entry, result = settled
                self._window.release(entry)
                yield result
            await pump
            await feeder
        finally:
            self._window.close()
            tasks = [task for task in (feeder, pump, told) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _fed(self, feed: Callable[[], Coroutine[None, None, None]]) -> None:
        try:
            await feed()
        finally:
            self._window.end_of_input()

    def settle(self, entry: Entry, error: LensmeshError) -> None:
        """Give an entry its final error."""
        self._results.put_nowait((entry, self._method.failed(entry, error)))

    async def _pump(self) -> None:
        loop = asyncio.get_running_loop()
        loss: _Loss | None = None
        streams = 0
        while await self._window.something_to_do():
            answers = self._answers
            try:
                async with asyncio.timeout_at(loss.last_try_ends(loop.time()) if loss else None) as self._patience:
                    error = await self._attempt(refresh_limits=streams > 0)
            except TimeoutError:
                # Patience ended while a stream was open on which nothing was answered.
                assert loss is not None
                raise loss.error from None
            streams += 1
            # What was sent and had no answer was waited for before the stream broke.
            since = loop.time() if self._window.waiting_since is None else self._window.waiting_since
            sent = self._window.sent
            gave_up = error is not None and self._accuse(error)
            waiting = self._window.unsend()
            if self._answers > answers or gave_up:
                loss = None
            if gave_up or (error is None and not waiting):
                continue
            if error is None:
                error = Unavailable(
                    Reason.DRAINING, "the server ended the stream before it had answered all", retry_after_s=0
                )
            if not (resumable(error) or (sent and of_a_message(error))):
                raise error
            loss = _Loss(error, loss.give_up_at if loss else since + self._persistence.patience_s, loss)
            if loop.time() > loss.give_up_at:
                raise loss.error
            if self._persistence.on_resume is not None:
                self._persistence.on_resume(error, waiting)
            if not of_a_message(error):
                await asyncio.sleep(min(loss.delay_s, loss.give_up_at - loop.time()))

    def _accuse(self, error: LensmeshError) -> bool:
        """Tell whether an item was given up because of this end of a stream."""
        if not may_be_an_items(error):
            return False
        entry = self._window.narrow()
        if entry is None:
            return False
        entry.strikes += 1
        if entry.strikes < (STRIKES if of_a_message(error) else STRIKES_UNEXPLAINED):
            return False
        self._window.give_up(entry)
        error.message = f"the item is given up, it was alone on {entry.strikes} streams that ended: {error.message}"
        self.settle(entry, error)
        return True

    def _remaining_s(self) -> float | None:
        deadline = self._persistence.deadline
        return None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())

    async def _attempt(self, *, refresh_limits: bool) -> LensmeshError | None:
        """Run one stream to its end. Return None if it ended in good order, else why it did not."""
        remaining = self._remaining_s()
        if remaining == 0.0:
            return DeadlineExceeded(Reason.DEADLINE_EXCEEDED, f"the {self._method.name} was not done within timeout_s")
        call: Any = None
        closings = self._connection.closings
        try:
            limits = await self._connection.limits(refresh=refresh_limits, timeout_s=remaining)
            self._streams += 1
            requests = self._requests(self._streams, limits.max_items, limits.max_message_bytes)
            call = self._method.open(requests, remaining)
            async for response in call:
                if response is None:
                    # gRPC's word for bytes that it could not parse.
                    return unreadable()
                for result in response.results:
                    self._receive(result)
        except grpc.RpcError as error:
            typed = self._connection.explain(error)
            if isinstance(typed, InternalFault) and typed.message == WRITE_MET_THE_END:
                self._caution_s = min(max(FIRST_CAUTION_S, 2 * self._caution_s), LONGEST_CAUTION_S)
                return Unavailable(Reason.UNKNOWN, HIDDEN)
            self._caution_s = 0.0
            return typed
        except LensmeshError as error:
            return error
        except DecodeError:
            return unreadable()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return unreadable() if self._connection.closings == closings else closed()
        finally:
            self._streams += 1
            if call is not None:
                call.cancel()
        return None

    async def _requests(self, stream: int, max_items: int, max_bytes: int) -> AsyncIterator[Any]:
        yield self._method.options
        if self._caution_s:
            await asyncio.sleep(self._caution_s)
        # gRPC goes on asking for the requests of a stream that has ended, and would take those of the next one.
        while stream == self._streams and not self._window.nothing_to_send:
            group = self._window.take(max_items, max_bytes)
            if group:
                yield self._method.items([entry.message for entry in group])
            else:
                await self._window.work.wait()

    def _receive(self, answer: Any) -> None:
        entry = self._window.answered(answer.ref)
        if entry is None:
            return
        self._answers += 1
        self._patience.reschedule(None)
        result = self._method.result(entry, answer)
        if not isinstance(result, LensmeshError):
            self._results.put_nowait((entry, result))
        elif result.retry_after_s is not None and entry.attempts < self._persistence.attempts:
            self._window.send_again(entry, result.retry_after_s)
        else:
            self.settle(entry, result)
