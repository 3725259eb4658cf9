"""Ingesting without end: one stream at a time, opened again where it breaks, each item answered exactly once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass

import grpc

from lensmesh.router.v1 import router_pb2
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
from lensmesh_chassis.status import from_status
from lensmesh_client import translate
from lensmesh_client.connection import Connection
from lensmesh_client.types import IngestResult
from lensmesh_client.window import Entry, Window

FIRST_DELAY_S, LONGEST_DELAY_S = 0.1, 5.0
# What grpc.aio says, in place of the server's own status, when a write meets a stream that the server has just ended.
WRITE_MET_THE_END = "Internal error from Core"
# Time for a refusal to arrive before the first write that could hide it; doubled each time it was not enough.
FIRST_CAUTION_S, LONGEST_CAUTION_S = 0.1, 3.0


@dataclass(frozen=True, slots=True)
class Persistence:
    """How long a bulk ingest keeps trying."""

    patience_s: float
    """Without one answer, over any number of broken streams."""
    attempts: int
    """Sendings of one item whose errors carry a retry delay."""
    deadline: float | None
    """Loop time at which all must be done."""
    on_resume: Callable[[LensmeshError, int], None] | None
    """Told of each broken stream: why, and how many items are sent again."""


def resumable(error: LensmeshError) -> bool:
    """Whether a new stream can do better: the peer went away, drains, or gave up. A refusal stays one."""
    if isinstance(error, Overloaded):
        return error.reason is not Reason.MESSAGE_TOO_LARGE
    return isinstance(error, Unavailable | Cancelled | InternalFault | UpstreamFault)


class BulkIngest:
    """Sends a window's entries and turns answers into results."""

    def __init__(
        self,
        connection: Connection,
        options: router_pb2.IngestOptions,
        window: Window,
        persistence: Persistence,
        context: Context,
    ) -> None:
        # A generator's own context changes with whoever takes its next value; the streams belong to one trace.
        self._context = context
        self._connection = connection
        self._options = options
        self._window = window
        self._persistence = persistence
        self._results: asyncio.Queue[tuple[Entry, IngestResult] | None] = asyncio.Queue()
        self._answers = 0
        self._caution_s = 0.0
        """Above 0 where the last stream's end was hidden by a write: were it a refusal, the next one should show it."""

    async def run(self, feed: Callable[[], Coroutine[None, None, None]]) -> AsyncGenerator[IngestResult]:
        """Results as they become final. `feed` admits the caller's items; its error is raised after their answers."""
        feeder = asyncio.create_task(self._fed(feed), context=self._context.copy())
        pump = asyncio.create_task(self._pump(), context=self._context.copy())
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
            feeder.cancel()
            pump.cancel()
            await asyncio.gather(feeder, pump, return_exceptions=True)

    async def _fed(self, feed: Callable[[], Coroutine[None, None, None]]) -> None:
        try:
            await feed()
        finally:
            self._window.end_of_input()

    def settle(self, entry: Entry, error: LensmeshError) -> None:
        """A final error."""
        self._results.put_nowait((entry, IngestResult(index=entry.index, ref=entry.ref, error=error)))

    async def _pump(self) -> None:
        loop = asyncio.get_running_loop()
        broken_since: float | None = None
        streams = failures = 0
        while await self._window.something_to_do():
            answers = self._answers
            error = await self._attempt(refresh_limits=streams > 0)
            streams += 1
            waiting = self._window.unsend()
            if error is None:
                if not waiting:
                    continue
                error = Unavailable(
                    Reason.DRAINING, "the server ended the stream before it had answered all", retry_after_s=0
                )
            if self._answers > answers:
                broken_since, failures = None, 0
            broken_since = loop.time() if broken_since is None else broken_since
            if not resumable(error) or loop.time() - broken_since > self._persistence.patience_s:
                raise error
            if self._persistence.on_resume is not None:
                self._persistence.on_resume(error, waiting)
            delay = min(FIRST_DELAY_S * 2**failures, LONGEST_DELAY_S) * random.uniform(0.5, 1.0)
            failures += 1
            await asyncio.sleep(max(delay, error.retry_after_s or 0.0))

    def _remaining_s(self) -> float | None:
        deadline = self._persistence.deadline
        return None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())

    async def _attempt(self, *, refresh_limits: bool) -> LensmeshError | None:
        """One stream, to its end. None if it ended in good order."""
        remaining = self._remaining_s()
        if remaining == 0.0:
            return DeadlineExceeded(Reason.DEADLINE_EXCEEDED, "the ingest was not done within timeout_s")
        call: grpc.aio.StreamStreamCall[router_pb2.IngestStreamRequest, router_pb2.IngestStreamResponse] | None = None
        try:
            limits = await self._connection.limits(refresh=refresh_limits)
            requests = self._requests(limits.max_items, limits.max_message_bytes)
            call = self._connection.router.IngestStream(requests, timeout=remaining)
            async for response in call:
                for result in response.results:
                    self._receive(result)
        except grpc.RpcError as error:
            typed = self._connection.explain(error)
            if isinstance(typed, InternalFault) and typed.message == WRITE_MET_THE_END:
                self._caution_s = min(max(FIRST_CAUTION_S, 2 * self._caution_s), LONGEST_CAUTION_S)
                return Unavailable(Reason.UNKNOWN, "the stream broke while items were being sent")
            self._caution_s = 0.0
            return typed
        except LensmeshError as error:
            return error
        finally:
            if call is not None:
                call.cancel()
        return None

    async def _requests(self, max_items: int, max_bytes: int) -> AsyncIterator[router_pb2.IngestStreamRequest]:
        yield router_pb2.IngestStreamRequest(options=self._options)
        if self._caution_s:
            await asyncio.sleep(self._caution_s)
        while not self._window.nothing_to_send:
            group = self._window.take(max_items, max_bytes)
            if group:
                yield router_pb2.IngestStreamRequest(items=[entry.message for entry in group])
            else:
                await self._window.work.wait()

    def _receive(self, result: router_pb2.IngestResult) -> None:
        entry = self._window.answered(result.ref)
        if entry is None:
            return
        self._answers += 1
        if result.WhichOneof("outcome") == "item":
            self._results.put_nowait((entry, translate.ingested(result.item, entry.index, entry.ref)))
            return
        error = from_status(result.error)
        if error.retry_after_s is not None and entry.attempts < self._persistence.attempts:
            self._window.send_again(entry, error.retry_after_s)
        else:
            self.settle(entry, error)
