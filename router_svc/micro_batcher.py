"""Gathers the single items of a stream into batch calls: at once while a call is free, waiting only for one to end."""

import asyncio
import contextvars
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from opentelemetry import trace
from opentelemetry.trace import Span

from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.telemetry import spans

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


@dataclass(slots=True)
class _Waiting(Generic[Item, Outcome]):
    item: Item
    size: int
    answer: asyncio.Future[Outcome]
    owner: Span
    """The item's own span."""


class MicroBatcher(Generic[Item, Outcome]):
    """A stream's items on their way into batch calls of `run`.

    There are `max_calls` calls at a time. The first `eager_calls` of them (0: all) begin with whatever waits, others
    only with as much as a call takes: where a call costs as much as its items do, few large ones are better.

    `run` answers one outcome per item, in order; if it raises, every item of that call fails with the error. An item
    whose future is cancelled leaves the queue, and a call that nobody waits for any longer is cancelled.

    In a trace each item's time here is a span named `step`, which fails as `failure_of` says of its outcome. A call
    stands below the stream that the batcher was made in, linked to the items it carries.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome]]],
        *,
        size_of: Callable[[Item], int],
        max_items: int,
        max_bytes: int,
        max_calls: int,
        eager_calls: int = 0,
        step: str = "call",
        failure_of: Callable[[Outcome], LensmeshError | None] | None = None,
    ) -> None:
        self._run = run
        self._failure_of = failure_of
        self._step = step
        # A call belongs to the stream, not to the item that happened to come first.
        self._context = contextvars.copy_context()
        self._stream = trace.get_current_span()
        self._is_traced = self._stream.is_recording()
        self._size_of = size_of
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._max_calls = max_calls
        self._eager_calls = min(eager_calls or max_calls, max_calls)
        self._waiting: deque[_Waiting[Item, Outcome]] = deque()
        self._waiting_bytes = 0
        self._calls: set[asyncio.Task[None]] = set()
        self._pump_is_due = False

    async def submit(self, item: Item) -> Outcome:
        """Return the outcome of `item`, when the call that carried it has ended."""
        return await self.enqueue(item)

    def enqueue(self, item: Item) -> asyncio.Future[Outcome]:
        """Put `item` in line, and return the future of its outcome. Whoever lets it go unread uses `let_go`."""
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        # Where the stream is not traced its items are not, and nothing has to be asked for each.
        owner = trace.get_current_span() if self._is_traced else trace.INVALID_SPAN
        if owner.is_recording():
            answer.add_done_callback(functools.partial(self._end_step, spans.tracer().start_span(self._step)))
        # The stream's own span is above the call anyway.
        linked = trace.INVALID_SPAN if owner is self._stream else owner
        self._waiting.append(_Waiting(item, size := self._size_of(item), answer, linked))
        self._waiting_bytes += size
        self._pump_soon()
        return answer

    def _end_step(self, span: Span, answer: asyncio.Future[Outcome]) -> None:
        """End the span of an item's time here, before whoever waits for its answer runs on."""
        try:
            if answer.cancelled():
                spans.fail(span, asyncio.CancelledError())
            elif (error := answer.exception() or self._failure(answer.result())) is not None:
                spans.fail(span, error)
        finally:
            span.end()

    def _failure(self, outcome: Outcome) -> LensmeshError | None:
        return self._failure_of(outcome) if self._failure_of is not None else None

    async def close(self) -> None:
        """Drop what waits, cancel what runs, and return when nothing of it is left."""
        for waiting in self._waiting:
            waiting.answer.cancel()
        self._waiting.clear()
        self._waiting_bytes = 0
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    def _pump_soon(self) -> None:
        # In the next turn of the loop, so that the items of one stream message go together.
        if not self._pump_is_due:
            self._pump_is_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_is_due = False
        while self._may_begin() and (batch := self._next_batch()):
            call = asyncio.create_task(self._carry(batch), context=self._context.copy())
            self._calls.add(call)
            call.add_done_callback(self._end_call)

    def _may_begin(self) -> bool:
        if len(self._calls) < self._eager_calls:
            return True
        is_full = len(self._waiting) >= self._max_items or self._waiting_bytes >= self._max_bytes
        return is_full and len(self._calls) < self._max_calls

    def _next_batch(self) -> list[_Waiting[Item, Outcome]]:
        batch: list[_Waiting[Item, Outcome]] = []
        size = 0
        while self._waiting and len(batch) < self._max_items:
            first = self._waiting[0]
            gone = first.answer.done()
            if not gone and batch and size + first.size > self._max_bytes:
                break
            self._waiting.popleft()
            self._waiting_bytes -= first.size
            if not gone:
                batch.append(first)
                size += first.size
        return batch

    def _end_call(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._pump()

    async def _carry(self, batch: list[_Waiting[Item, Outcome]]) -> None:
        watch = _Watch(len(batch))
        for waiting in batch:
            waiting.answer.add_done_callback(watch.forget)
        try:
            with spans.carrying([waiting.owner for waiting in batch]):
                outcomes = await self._run([waiting.item for waiting in batch])
            for waiting, outcome in zip(batch, outcomes, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(outcome)
        except asyncio.CancelledError:
            for waiting in batch:
                waiting.answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to the items, which raise it to their submitters
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)


def let_go(answers: Iterable[asyncio.Future[Any]]) -> None:
    """Withdraw the items of these futures, as far as they wait, and leave what came of the others unread."""
    for answer in answers:
        if not answer.cancel() and not answer.cancelled():
            # Otherwise asyncio complains of an error that nobody looked at.
            answer.exception()


class _Watch:
    """Ends the call that it is made in as soon as nobody waits for any of its items."""

    def __init__(self, wanted: int) -> None:
        self._call = asyncio.current_task()
        self._wanted = wanted

    def forget(self, answer: asyncio.Future[Any]) -> None:
        """Note that an item has its answer, or that nobody waits for it."""
        self._wanted -= 1
        if self._wanted == 0 and answer.cancelled() and self._call is not None:
            self._call.cancel()
