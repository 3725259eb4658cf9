"""A bulk stream of a model service: its options once, its items numbered, its answers as they are ready."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.images.fetching import Fetcher
from lensmesh_chassis.images.inputs import Fetching
from lensmesh_chassis.limits import check_items
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.streams import answer_chunks
from lensmesh_chassis.telemetry import spans
from lensmesh_inference.items import EngineItem, ItemOutcome
from lensmesh_serving.app import ModelServiceApp
from lensmesh_serving.call import ModelCall
from lensmesh_serving.reading import Reader, read_elsewhere, read_here
from lensmesh_serving.settings import ModelServiceSettings

C = TypeVar("C", bound=ModelCall[Any])


@dataclass(frozen=True, slots=True)
class StreamItem(Generic[C]):
    """An item as read, and what holds for its stream."""

    index: int
    """Among all of the stream."""
    message: Any
    """With a `ref`, as every item of a stream has it."""
    field: str
    """Its dotted path in its request."""
    call: C


async def read_stream(
    requests: AsyncIterator[Any], begin: Callable[[Any], Awaitable[C]], settings: ModelServiceSettings
) -> AsyncIterator[list[StreamItem[C]]]:
    """Read a stream whose requests have `options` and `items`: the items of each request, numbered through all of them.

    `begin` makes a call of the first request's options. Raises what it raises, ``InvalidInput`` for requests beyond
    the limits, and with reason OPTIONS_REPEATED for options in any other request.
    """
    call: C | None = None
    read = 0
    async for request in requests:
        if request.items:
            check_items(len(request.items), settings.max_items, "items")
        if call is None:
            call = await begin(request.options)
        elif request.HasField("options"):
            raise InvalidInput(
                Reason.OPTIONS_REPEATED,
                "options stand in the first message of a stream only: open another stream for other options.",
                field="options",
            )
        yield [StreamItem(read + index, item, f"items[{index}]", call) for index, item in enumerate(request.items)]
        read += len(request.items)


async def answer_stream(
    messages: AsyncIterator[list[StreamItem[C]]],
    read: Callable[[StreamItem[C], Fetching], Coroutine[Any, Any, EngineItem[Any, Any]]],
    app: ModelServiceApp[Any, Any, Any],
) -> AsyncIterator[list[tuple[StreamItem[C], ItemOutcome[Any]]]]:
    """Answer items as they are ready: groups of each one and its outcome.

    `read` makes the engine's item of one, as a `Reader` does. What it raises becomes the item's outcome, and ends
    nothing.
    """
    settings: ModelServiceSettings = app.settings
    groups: Any = answer_chunks(
        messages,
        _Stream(read, app.fetcher).answer,
        size_of=lambda one: one.message.ByteSize(),
        max_items=settings.stream_items,
        max_bytes=settings.stream_bytes,
        draining=app.runtime.draining,
    )
    async with aclosing(groups):
        async for group in groups:
            yield group


class _Stream(Generic[C]):
    """The way of a stream's items to their engine."""

    def __init__(
        self, read: Callable[[StreamItem[C], Fetching], Coroutine[Any, Any, EngineItem[Any, Any]]], fetcher: Fetcher
    ) -> None:
        self._read = read
        self._fetcher = fetcher

    async def answer(
        self, chunk: Sequence[StreamItem[C]], give: Callable[[int, tuple[StreamItem[C], ItemOutcome[Any]]], None]
    ) -> None:
        """Answer a chunk: together what is here, and each item that has to be fetched on its own."""
        read = {index: read_here(self._reader(one)) for index, one in enumerate(chunk)}
        here = {index: item for index, item in read.items() if item is not None}
        fetching = [
            asyncio.create_task(self._fetch_and_answer(chunk[index], functools.partial(give, index)))
            for index, item in read.items()
            if item is None
        ]
        try:
            if here:
                places = list(here)
                await chunk[0].call.run_some(
                    list(here.values()),
                    lambda index, outcome: give(places[index], (chunk[places[index]], outcome)),
                    lambda index: _place_of(chunk[places[index]]),
                )
            await asyncio.gather(*fetching)
        finally:
            for task in fetching:
                task.cancel()
            await asyncio.gather(*fetching, return_exceptions=True)

    async def _fetch_and_answer(
        self, one: StreamItem[C], give: Callable[[tuple[StreamItem[C], ItemOutcome[Any]]], None]
    ) -> None:
        async with self._fetcher.for_call() as fetches:
            item = await read_elsewhere(self._reader(one), fetches)
            await one.call.run_some([item], lambda _, outcome: give((one, outcome)), lambda _: _place_of(one))

    def _reader(self, one: StreamItem[C]) -> Reader[EngineItem[Any, Any]]:
        return functools.partial(self._read, one)


def _place_of(one: StreamItem[Any]) -> Mapping[str, Any]:
    return {spans.ITEM_INDEX: one.index, spans.ITEM_REF: one.message.ref}
