"""Many inputs through batch calls: cut to the server's limits, some calls at a time, answers in the input's order."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import InvalidInput, LensmeshError, Overloaded
from lensmesh_chassis.reasons import Reason
from lensmesh_client.mesh import Limits

T = TypeVar("T")
S = TypeVar("S", str, bytes, router_pb2.SearchRequest, common_pb2.Embedding)
R = TypeVar("R")

CALL_ITEMS = 64
CALL_BYTES = 8 * 1024 * 1024
CALLS_AT_ONCE = 4
ATTEMPTS = 6
LONGEST_DELAY_S = 10.0
ITEM_OVERHEAD_BYTES = 32


def chunks(loaded: Iterable[tuple[int, S]], max_items: int, max_bytes: int) -> Iterator[list[tuple[int, S]]]:
    """Cut inputs into runs of (position, input) that fit into one call each."""
    chunk: list[tuple[int, S]] = []
    size = 0
    for index, item in loaded:
        # A character has at most four bytes in UTF-8.
        cost = _size(item) * (4 if isinstance(item, str) else 1) + ITEM_OVERHEAD_BYTES
        if chunk and (len(chunk) >= max_items or size + cost > max_bytes):
            yield chunk
            chunk, size = [], 0
        chunk.append((index, item))
        size += cost
    if chunk:
        yield chunk


def _size(item: str | bytes | Message) -> int:
    return len(item) if isinstance(item, str | bytes) else item.ByteSize()


def beside(limits: Limits, size: int) -> Limits:
    """Return the limits of what goes in a call beside `size` bytes that go with each."""
    if not limits.max_message_bytes:
        return limits
    return dataclasses.replace(limits, max_message_bytes=max(1, limits.max_message_bytes - size))


async def answers(
    inputs: Sequence[T],
    load: Callable[[T, str], S],
    call: Callable[[list[S]], Awaitable[Sequence[R]]],
    limits: Limits,
    field: str,
) -> list[R | LensmeshError]:
    """Return one answer or error for each input. `load(input, path)` runs in a thread; its InvalidInput is the answer.

    An error of a whole call is raised, after waiting out what an overloaded service asks for.
    """
    found: dict[int, R | LensmeshError] = {}
    most_items = min(limits.max_items or CALL_ITEMS, CALL_ITEMS)
    most_bytes = min(limits.max_message_bytes or CALL_BYTES, CALL_BYTES)

    def loaded() -> Iterator[tuple[int, S]]:
        for index, item in enumerate(inputs):
            path = f"{field}[{index}]"
            try:
                content = load(item, path)
            except LensmeshError as error:
                found[index] = error
                continue
            except Exception as error:  # noqa: BLE001 - a caller's own object that fails is that input's error alone
                found[index] = InvalidInput(
                    Reason.IMAGE_MISSING, f"{path} cannot be read: {type(error).__name__}: {error}", field=path
                )
                continue
            size = _size(content)
            if limits.max_message_bytes and size > limits.max_message_bytes:
                found[index] = InvalidInput(
                    Reason.MESSAGE_TOO_LARGE,
                    f"{path} has {size} bytes, a message at most {limits.max_message_bytes}",
                    field=path,
                )
                continue
            yield index, content

    async def run(chunk: list[tuple[int, S]]) -> None:
        results = await _patiently(lambda: call([item for _, item in chunk]))
        found.update(zip((index for index, _ in chunk), results, strict=True))

    pending: set[asyncio.Task[None]] = set()
    groups = chunks(loaded(), most_items, most_bytes)
    try:
        while (chunk := await asyncio.to_thread(next, groups, None)) is not None:
            pending.add(asyncio.create_task(run(chunk)))
            if len(pending) >= CALLS_AT_ONCE:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        await asyncio.gather(*pending)
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    return [found[index] for index in range(len(inputs))]


async def _patiently(call: Callable[[], Awaitable[Sequence[R]]]) -> Sequence[R]:
    """Make a call, and make it again some times where a refusal says when: a batch belongs to a job that has time."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await call()
        except Overloaded as error:
            if error.retry_after_s is None:
                raise
            await asyncio.sleep(min(error.retry_after_s, LONGEST_DELAY_S))
    return await call()
