"""A bulk stream of a model service: its options once, its items numbered, its answers as they are ready."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.limits import check_items, check_message
from lensmesh_chassis.process.server import Runtime
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.streams import answer_as_ready
from lensmesh_chassis.telemetry import spans
from lensmesh_inference.batching.tracing import item_span
from lensmesh_inference.items import Failed
from lensmesh_serving.call import ModelCall
from lensmesh_serving.settings import ModelServiceSettings

C = TypeVar("C", bound=ModelCall[Any])
R = TypeVar("R")


@dataclass(frozen=True)
class StreamItem(Generic[C]):
    """One item as read, and what holds for its stream."""

    index: int
    """Among all of the stream."""
    message: Any
    """With a `ref`, as every item of a stream has it."""
    field: str
    """Its dotted path in its request."""
    call: C


async def read_stream(
    requests: AsyncIterator[Any], begin: Callable[[Any], Awaitable[C]], settings: ModelServiceSettings
) -> AsyncIterator[StreamItem[C]]:
    """Read the items of a stream whose requests have `options` and `items`, numbered through all of them.

    `begin` makes a call of the first request's options. Raises what it raises, ``InvalidInput`` for requests beyond
    the limits, and with reason OPTIONS_REPEATED for options in any other request.
    """
    call: C | None = None
    places = itertools.count()
    async for request in requests:
        check_message(request, settings.max_message_bytes)
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
        for index, message in enumerate(request.items):
            yield StreamItem(next(places), message, f"items[{index}]", call)


async def answer_stream(
    items: AsyncIterator[StreamItem[C]],
    answer: Callable[[StreamItem[C]], Awaitable[R]],
    write_error: Callable[[Failed], R],
    runtime: Runtime[Any],
) -> AsyncIterator[list[tuple[str, R]]]:
    """Answer items as they are ready: groups of each one's `ref` and its result.

    `answer` runs in the item's span; what it raises becomes the item's result by `write_error`, and ends nothing.
    """
    settings: ModelServiceSettings = runtime.settings

    async def result_of(one: StreamItem[C]) -> tuple[str, R]:
        arrived = time.monotonic()
        try:
            with item_span(one.index, {spans.ITEM_REF: one.message.ref, **one.call.attributes}):
                return one.message.ref, await answer(one)
        except Exception as error:  # noqa: BLE001 - an item fails alone; to_status logs what is not meant for callers
            return one.message.ref, write_error(Failed(error, int((time.monotonic() - arrived) * 1e6)))

    answers: Any = answer_as_ready(
        items,
        result_of,
        size_of=lambda one: one.message.ByteSize(),
        max_items=settings.stream_items,
        max_bytes=settings.stream_bytes,
        draining=runtime.draining,
    )
    async with aclosing(answers):
        async for group in answers:
            yield group
