"""Reads a caller's pictures for a bulk ingest, a few ahead of the network and off the event loop."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import InvalidInput, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_client import translate
from lensmesh_client.images import ImageLike, image_bytes
from lensmesh_client.mesh import Limits
from lensmesh_client.types import IngestItem
from lensmesh_client.window import ITEM_OVERHEAD_BYTES, Entry, Window

T = TypeVar("T")


def message(item: IngestItem) -> router_pb2.IngestItem:
    """The item as it travels, its picture read and its digest taken. Raises InvalidInput."""
    content = image_bytes(item.image)
    return router_pb2.IngestItem(
        ref=item.ref,
        id=item.id,
        image=common_pb2.Image(content=content),
        metadata=None if item.metadata is None else translate.struct(item.metadata),
        caption=item.caption,
        image_uri=item.image_uri,
        content_digest=hashlib.sha256(content).digest(),
    )


def entry(index: int, item: IngestItem | ImageLike, limits: Limits) -> tuple[Entry, LensmeshError | None]:
    """One item of the input, and why it cannot be sent, if it cannot.

    A message that the server cannot take would end the stream for all others, so it is refused here.
    """
    item = item if isinstance(item, IngestItem) else IngestItem(item)
    try:
        sent = message(item)
    except LensmeshError as error:
        return Entry(index, item.ref, router_pb2.IngestItem(ref=str(index)), 0), error
    sent.ref = str(index)
    size = sent.ByteSize() + ITEM_OVERHEAD_BYTES
    if limits.max_message_bytes and size > limits.max_message_bytes:
        return Entry(index, item.ref, router_pb2.IngestItem(ref=sent.ref), 0), InvalidInput(
            Reason.MESSAGE_TOO_LARGE,
            f"the item has {size} bytes, the server takes {limits.max_message_bytes}: send a smaller picture",
            field="image",
        )
    return Entry(index, item.ref, sent, size), None


async def feed(
    items: AsyncIterable[IngestItem | ImageLike] | Iterable[IngestItem | ImageLike],
    limits: Limits,
    window: Window,
    refuse: Callable[[Entry, LensmeshError], None],
) -> None:
    """Admits every item of the input; a plain iterable is stepped in one thread of its own, since it may block."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="lensmesh-ingest")
    loop = asyncio.get_running_loop()
    index = 0
    try:
        async for item in _steps(items, thread):
            read, error = await loop.run_in_executor(thread, entry, index, item, limits)
            await window.admit(read, send=error is None)
            if error is not None:
                refuse(read, error)
            index += 1
    finally:
        # Not waited for: the caller's iterator may block for as long as it likes.
        thread.shutdown(wait=False, cancel_futures=True)


async def _steps(items: AsyncIterable[T] | Iterable[T], thread: ThreadPoolExecutor) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
        return
    loop, iterator = asyncio.get_running_loop(), iter(items)
    while (step := await loop.run_in_executor(thread, _next, iterator)) is not None:
        yield step[0]


def _next(iterator: Iterator[T]) -> tuple[T] | None:
    for item in iterator:
        return (item,)
    return None
