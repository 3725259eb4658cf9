"""What all streams of the router share: options once, items counted, bytes bounded, answers as they are ready."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lensmesh_chassis.concurrency import Budget, Share
from lensmesh_chassis.errors import DEFAULT_RETRY_AFTER_S, InvalidInput, Unavailable
from lensmesh_chassis.limits import check_items, check_message
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.streams import answer_as_ready
from lensmesh_chassis.telemetry import spans

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What one message and one stream may hold, and what all streams may together."""

    max_items: int
    max_message_bytes: int
    in_flight_items: int
    in_flight_bytes: int
    all_streams: Budget
    draining: asyncio.Event


@dataclass(frozen=True, slots=True)
class _Read(Generic[T]):
    index: int
    item: T
    size: int
    taken: int


async def first_message(messages: AsyncIterator[T], draining: asyncio.Event) -> T | None:
    """The first message of a stream, None if there is none. Raises Unavailable (DRAINING) if it comes too late."""
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
    first: Any,
    rest: AsyncIterator[Any],
    limits: StreamLimits,
    *,
    answer: Callable[[T], Awaitable[R]],
    size_of: Callable[[T], int],
    ref_of: Callable[[T], str],
    prepare: Callable[[Sequence[Any]], AsyncGenerator[T, None]],
) -> AsyncGenerator[list[R], None]:
    """Groups of answers to all items of a stream, as they become ready.

    `prepare` turns the items of one message into what `answer` takes, one by one: what it holds of them is bounded by
    itself until then. Each answer has a span of its own,
    `item`, below the stream's; `answer` tells it what went wrong. Raises OPTIONS_REPEATED,
    TOO_MANY_ITEMS and MESSAGE_TOO_LARGE once what was read before is answered, and DRAINING.
    """
    async with limits.all_streams.share() as share:

        async def finish(read: _Read[T]) -> R:
            facts = {spans.ITEM_INDEX: read.index, spans.ITEM_REF: ref_of(read.item), spans.ITEM_BYTES: read.size}
            try:
                with spans.span("item", facts):
                    return await answer(read.item)
            finally:
                share.give(read.taken)

        groups: Any = answer_as_ready(
            _items(first, rest, limits, prepare, size_of, share),
            finish,
            size_of=lambda read: read.size,
            max_items=limits.in_flight_items,
            max_bytes=limits.in_flight_bytes,
            draining=limits.draining,
        )
        async with aclosing(groups):
            async for group in groups:
                yield group


async def _items(
    first: Any,
    rest: AsyncIterator[Any],
    limits: StreamLimits,
    prepare: Callable[[Sequence[Any]], AsyncGenerator[T, None]],
    size_of: Callable[[T], int],
    share: Share,
) -> AsyncIterator[_Read[T]]:
    message, is_first = first, True
    places = itertools.count()
    while True:
        if not is_first and message.HasField("options"):
            raise InvalidInput(
                Reason.OPTIONS_REPEATED,
                "options stand in the first message of a stream and hold for all of it: leave them out here",
                field="options",
            )
        check_message(message, limits.max_message_bytes)
        if message.items:
            check_items(len(message.items), limits.max_items, "items")
            async with aclosing(prepare(message.items)) as prepared:
                async for item in prepared:
                    size = size_of(item)
                    yield _Read(next(places), item, size, await share.take(size))
        try:
            message, is_first = await anext(rest), False
        except StopAsyncIteration:
            return


async def as_they_are(items: Sequence[T]) -> AsyncGenerator[T, None]:
    """A `prepare` that changes nothing."""
    for item in items:
        yield item
