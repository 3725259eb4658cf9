"""Rules that all streams of the router share: options once, items counted, bytes bounded, answers as they are ready."""

import asyncio
import itertools
import operator
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from lensmesh_chassis.concurrency import Budget, Share
from lensmesh_chassis.errors import DEFAULT_RETRY_AFTER_S, InvalidInput, Unavailable
from lensmesh_chassis.limits import check_items
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.streams import answer_as_ready
from lensmesh_chassis.telemetry import spans

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Limits of what one message and one stream may hold, and what all streams may together."""

    max_items: int
    in_flight_items: int
    in_flight_bytes: int
    all_streams: Budget
    draining: asyncio.Event

    def held_bytes(self) -> int:
        """Return how much all streams hold now."""
        return self.all_streams.held


class StreamWork(Protocol[T, R_co]):
    """Work of one stream on its items."""

    def prepare(self, items: Sequence[Any]) -> AsyncGenerator[T, None]:
        """Make of the items of one message what `answer` takes, one by one; until then it bounds what it holds."""
        ...

    def size_of(self, item: T) -> int:
        """Return the bytes that an item holds while it is in flight."""
        ...

    def ref_of(self, item: T) -> str:
        """Return the caller's name for an item."""
        ...

    async def answer(self, item: T) -> R_co:
        """Answer one item, also where it fails, and tell its span what went wrong: what is raised ends the stream."""
        ...


async def first_message(messages: AsyncIterator[T], draining: asyncio.Event) -> T | None:
    """Return the first message of a stream, None if there is none. Raises Unavailable (DRAINING) if it is too late."""
    reading = asyncio.ensure_future(anext(messages, None))
    stopping = asyncio.create_task(draining.wait())
    try:
        await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            return reading.result()
        raise Unavailable(
            Reason.DRAINING,
            "the router is shutting down: send everything again, on a new call",
            retry_after_s=DEFAULT_RETRY_AFTER_S,
        )
    finally:
        for task in (reading, stopping):
            task.cancel()
        await asyncio.gather(reading, stopping, return_exceptions=True)


async def answers(
    first: Any, rest: AsyncIterator[Any], limits: StreamLimits, work: StreamWork[T, R]
) -> AsyncGenerator[list[R], None]:
    """Yield groups of answers to all items of a stream, as they become ready.

    Each answer has a span of its own, `item`, below the stream's. Raises OPTIONS_REPEATED, TOO_MANY_ITEMS and what
    `rest` raises once what was read before is answered, and DRAINING.
    """
    async with limits.all_streams.share() as share:
        stream = _Stream(work, limits, share)
        groups: Any = answer_as_ready(
            stream.items(first, rest),
            stream.answer,
            size_of=operator.attrgetter("size"),
            max_items=limits.in_flight_items,
            max_bytes=limits.in_flight_bytes,
            draining=limits.draining,
        )
        async with aclosing(groups):
            async for group in groups:
                yield group


@dataclass(frozen=True, slots=True)
class _Read(Generic[T]):
    index: int
    item: T
    size: int
    taken: int


class _Stream(Generic[T, R]):
    """A stream: its items as they are read, and its share of what all streams may hold."""

    def __init__(self, work: StreamWork[T, R], limits: StreamLimits, share: Share) -> None:
        self._work = work
        self._limits = limits
        self._share = share

    async def items(self, first: Any, rest: AsyncIterator[Any]) -> AsyncIterator[_Read[T]]:
        """Yield what is to be answered, as far as there is room for it."""
        message, is_first = first, True
        del first
        places = itertools.count()
        while True:
            self._check(message, is_first)
            if message.items:
                prepared = self._work.prepare(message.items)
                # What is kept of it, `prepare` has taken out: an image is not held twice.
                message = None
                async with aclosing(prepared):
                    async for item in prepared:
                        size = self._work.size_of(item)
                        yield _Read(next(places), item, size, await self._share.take(size))
            try:
                message, is_first = await anext(rest), False
            except StopAsyncIteration:
                return

    async def answer(self, read: _Read[T]) -> R:
        """Answer one item, within a span of its own, and give its room back."""
        attributes = {
            spans.ITEM_INDEX: read.index,
            spans.ITEM_REF: self._work.ref_of(read.item),
            spans.ITEM_BYTES: read.size,
        }
        try:
            with spans.span("item", attributes):
                return await self._work.answer(read.item)
        finally:
            self._share.give(read.taken)

    def _check(self, message: Any, is_first: bool) -> None:
        if not is_first and message.HasField("options"):
            raise InvalidInput(
                Reason.OPTIONS_REPEATED,
                "options stand in the first message of a stream and hold for all of it: leave them out here",
                field="options",
            )
        if message.items:
            check_items(len(message.items), self._limits.max_items, "items")
