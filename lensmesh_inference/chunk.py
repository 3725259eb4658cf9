"""A chunk: items that came together, for one model. They share their look-up, their room, and their way to the threads.

Each has an outcome of its own, which is told as soon as it is known.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from lensmesh_inference.batching.batcher import Lane, Reservation
from lensmesh_inference.batching.tracing import ItemSpan
from lensmesh_inference.images.pool import DecodePool
from lensmesh_inference.items import EngineItem, Failed, ItemOutcome
from lensmesh_inference.preparation import Preparation
from lensmesh_inference.request import EngineParts, Request

In = TypeVar("In")
Out = TypeVar("Out")
Value = TypeVar("Value")

# Larger contents are digested beside the event loop: SHA-256 takes 2 ms for a megabyte where the CPU does not help.
_DIGEST_AT_ONCE_BYTES: Final = 16 * 1024
# So long the brief items of a call are prepared on the event loop; threads take those that are left.
_HERE_S: Final = 0.001


class Chunk(Generic[In, Out, Value]):
    """The requests of a call, or of a part of a stream. `tell` is called with the index and the outcome of each item.

    An item that could not be read is given as its error. `span_of` begins the span of an item, by its index.
    """

    def __init__(
        self,
        parts: EngineParts[In, Out, Value],
        items: Sequence[EngineItem[In, Value] | BaseException],
        tell: Callable[[int, ItemOutcome[Value]], None],
        *,
        lane: Lane,
        deadline: float | None,
        span_of: Callable[[int], ItemSpan],
        device: int | None = None,
    ) -> None:
        self._parts = parts
        self._tell = tell
        self._lane = lane
        self._deadline = deadline
        self._span_of = span_of
        self._requests = [
            Request(parts, self, index, item, lane=lane, deadline=deadline, device=device)
            for index, item in enumerate(items)
            if not isinstance(item, BaseException)
        ]
        self._unread = {index: item for index, item in enumerate(items) if isinstance(item, BaseException)}
        self._open = len(items)
        self._all_told: asyncio.Future[None] | None = None
        """A future that is waited for while an outcome is missing."""
        # For what is logged when a request is prepared once more, long after it came.
        self._context = contextvars.copy_context()

    async def answer(self) -> None:
        """Answer all requests, or refuse all: raises ``Overloaded`` where there is no room for them.

        What is in the cache needs no room.
        """
        await self._go(self._admit_all)

    async def answer_as_room_comes(self) -> None:
        """Answer all requests, as soon as there is room for each."""
        await self._go(self._admit_some)

    async def answer_within(self, reservation: Reservation) -> None:
        """Answer all requests in room that was reserved for them."""

        async def admit() -> None:
            self._start_within(reservation, self._requests)

        await self._go(admit)

    def told(self, index: int, outcome: ItemOutcome[Value]) -> None:
        """Pass an outcome on."""
        self._open -= 1
        if not self._open and self._all_told is not None and not self._all_told.done():
            self._all_told.set_result(None)
        self._tell(index, outcome)

    def start(self, requests: Sequence[Request[In, Out, Value]]) -> None:
        """Prepare requests, which have room in the queue: brief ones of a call here, all others in threads."""
        others = requests
        if self._lane is Lane.INTERACTIVE:
            others = self._context.copy().run(self._prepare_here, requests)
        pools: dict[DecodePool, list[Preparation[In, Out, Value]]] = {}
        for request in others:
            pools.setdefault(request.item.pool or self._parts.pool, []).append(Preparation(request))
        for pool, jobs in pools.items():
            self._context.copy().run(pool.start, jobs, _go_on, lane=self._lane)

    def _prepare_here(self, requests: Sequence[Request[In, Out, Value]]) -> Sequence[Request[In, Out, Value]]:
        """Prepare brief items on the event loop, for a moment: waking a thread takes longer. Return the others."""
        until = time.monotonic() + _HERE_S
        others: list[Request[In, Out, Value]] = []
        for request in requests:
            if request.item.brief and time.monotonic() < until:
                job = Preparation(request)
                job.run()
                request.prepared(job)
            else:
                others.append(request)
        return others

    async def _go(self, admit: Callable[[], Any]) -> None:
        try:
            await admit()
            if self._open:
                self._all_told = asyncio.get_running_loop().create_future()
                await self._all_told
        finally:
            self._leave()

    def _leave(self) -> None:
        """Let go of what has no outcome. Threads are told, so that they begin with nothing that nobody waits for."""
        if self._open:
            for request in self._requests:
                if not request.over:
                    request.abandon(asyncio.CancelledError())
            for pool in {request.item.pool or self._parts.pool for request in self._requests}:
                pool.prune()
        # They know this chunk: without the circle they end here, and with them the images that they hold.
        self._requests = []

    async def _admit_all(self) -> None:
        missed = self._look_at_hand(self._requests)
        shared = self._parts.cache.shared
        reservation: Reservation | None = None
        if shared or any(request.cached and request.key is None for request in missed):
            # With room for all, digests and look-ups go the same way to the threads as decoding.
            if not shared:
                reservation = self._reserve(missed, self._parts.batcher.try_to_admit)
            if reservation is None:
                missed = await self._look_up(missed)
        if missed and reservation is None:
            reservation = self._reserve(missed, self._parts.batcher.admit)
        self._begin()
        _answer(self._requests)
        if reservation is not None:
            self._start_within(reservation, missed)

    async def _admit_some(self) -> None:
        self._begin()
        missed = self._look_at_hand(self._requests)
        _answer(self._requests)
        if self._parts.cache.shared:
            missed = await self._look_up(missed)
            _answer(self._requests)
        try:
            while missed:
                missed = await self._start_some(missed)
        except Exception as error:  # noqa: BLE001 - the queue is closed: an outcome as any other
            for request in missed:
                request.fail(error)

    async def _start_some(self, missed: list[Request[In, Out, Value]]) -> list[Request[In, Out, Value]]:
        """Start as many requests as there is room for, at least one. Return the others."""
        batcher, size_bytes = self._parts.batcher, missed[0].item.size_bytes
        reservation = batcher.admit_if_room(self._lane, size_bytes=size_bytes)
        if reservation is None and any(request.cached and request.key is None for request in missed):
            # What the cache has does not wait for room.
            missed = await self._look_up(missed)
            _answer(self._requests)
            return missed
        if reservation is None:
            reservation = await batcher.admit_when_room(self._lane, size_bytes=size_bytes)
        missed[0].admitted(reservation)
        group = missed[0].item.group
        # The prediction costs more than all else that is looked at: once for all items, where they are alike.
        alike = len(missed) > 1 and all(request.item.group is group for request in missed)
        plenty = alike and batcher.has_plenty(self._lane, group, len(missed))
        taken = 1
        while taken < len(missed) and reservation.grow(missed[taken].item.size_bytes, plenty=plenty):
            missed[taken].admitted(reservation)
            taken += 1
        self.start(missed[:taken])
        return missed[taken:]

    def _begin(self) -> None:
        """Begin all items' spans, and tell of those that could not be read."""
        for request in self._requests:
            request.begin(self._span_of(request.index))
        for index, error in self._unread.items():
            if not isinstance(error, Exception):
                raise error
            span = self._span_of(index)
            span.fail(error)
            span.end()
            self.told(index, Failed(error, 0))

    def _reserve(
        self, requests: Sequence[Request[In, Out, Value]], admit: Callable[..., Reservation | None]
    ) -> Reservation | None:
        size_bytes = sum(request.item.size_bytes for request in requests)
        return admit(self._lane, items=len(requests), size_bytes=size_bytes, deadline=self._deadline)

    def _start_within(self, reservation: Reservation, requests: Sequence[Request[In, Out, Value]]) -> None:
        for request in requests:
            request.admitted(reservation)
        self.start(requests)

    def _look_at_hand(self, requests: Sequence[Request[In, Out, Value]]) -> list[Request[In, Out, Value]]:
        """Look up in memory what is digested at once. Return what is not found, or not digested."""
        for request in requests:
            if request.cached and len(request.item.content) <= _DIGEST_AT_ONCE_BYTES:
                request.value = self._parts.look_here(request.digest())
        return [request for request in requests if request.value is None]

    async def _look_up(self, requests: Sequence[Request[In, Out, Value]]) -> list[Request[In, Out, Value]]:
        """Look up in the cache, all at once. Return what is not found."""
        cache, codec = self._parts.cache, self._parts.codec
        asked = [request for request in requests if request.cached]
        undigested = [request for request in asked if request.key is None]
        if undigested:
            await asyncio.to_thread(_digest, undigested)
        payloads = await asyncio.gather(*(cache.get(request.digest()) for request in asked))
        for request, payload in zip(asked, payloads, strict=True):
            request.value = None if payload is None else codec.load(payload)
        return [request for request in requests if request.value is None]


def _answer(requests: Sequence[Request[Any, Any, Value]]) -> None:
    """Answer what was found."""
    for request in requests:
        if request.value is not None and not request.over:
            request.found(request.value)


def _digest(requests: Sequence[Request[Any, Any, Any]]) -> None:
    for request in requests:
        if not request.over:
            request.digest()


def _go_on(jobs: Sequence[Preparation[Any, Any, Any]]) -> None:
    for job in jobs:
        job.request.prepared(job)
