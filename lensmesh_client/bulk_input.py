"""Reads a caller's images for a bulk ingest, a few ahead of the network and off the event loop."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import TypeVar

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import InvalidInput, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_client.guard import building, check_text
from lensmesh_client.images import ImageLike, image_bytes
from lensmesh_client.mesh import Limits
from lensmesh_client.metadata import MAX_DEPTH, struct
from lensmesh_client.types import IngestItem
from lensmesh_client.window import ITEM_OVERHEAD_BYTES, Entry, Window
from lensmesh_client.worker import Worker

T = TypeVar("T")
NO_LIMITS = Limits()


def message(item: IngestItem, limits: Limits = NO_LIMITS) -> router_pb2.IngestItem:
    """Make the message of an item: its image read, its digest taken, without `ref`, which is the caller's own.

    Raises InvalidInput, whatever is wrong with the item: one message that cannot be made, or that the server cannot
    parse, must not take others with it.
    """
    try:
        content = image_bytes(item.image, max_bytes=limits.max_image_bytes)
        return router_pb2.IngestItem(
            id=check_text(item.id, "id", Reason.ITEM_ID_INVALID),
            image=common_pb2.Image(content=content),
            metadata=None if item.metadata is None else struct(item.metadata, limits.max_metadata_depth or MAX_DEPTH),
            caption=check_text(item.caption, "caption"),
            image_uri=check_text(item.image_uri, "image_uri"),
            content_digest=hashlib.sha256(content).digest(),
        )
    except LensmeshError:
        raise
    except Exception as error:
        # A PIL image that cannot be read, a mapping that fails: the caller's own object, and this item alone.
        raise InvalidInput(
            Reason.IMAGE_MISSING, f"the item cannot be read: {type(error).__name__}: {error}", field="image"
        ) from error


def entry(index: int, item: IngestItem | ImageLike, limits: Limits) -> tuple[Entry, LensmeshError | None]:
    """One item of the input, and why it cannot be sent, if it cannot.

    A message that the server cannot take would end the stream for all others, so it is refused here.
    """
    item = item if isinstance(item, IngestItem) else IngestItem(item)
    try:
        sent = message(item, limits)
    except LensmeshError as error:
        return Entry(index, item.ref, router_pb2.IngestItem(ref=str(index)), 0), error
    sent.ref = str(index)
    size = sent.ByteSize() + ITEM_OVERHEAD_BYTES
    if limits.max_message_bytes and size > limits.max_message_bytes:
        return Entry(index, item.ref, router_pb2.IngestItem(ref=sent.ref), 0), InvalidInput(
            Reason.MESSAGE_TOO_LARGE,
            f"the item has {size} bytes, the server takes {limits.max_message_bytes}: send a smaller image",
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
    worker = Worker("lensmesh-ingest")
    index = 0
    try:
        async for item in _steps(items, worker):
            read, error = await worker.run(entry, index, item, limits)
            await window.admit(read, send=error is None)
            if error is not None:
                refuse(read, error)
            index += 1
    finally:
        worker.close()


async def _steps(items: AsyncIterable[T] | Iterable[T], worker: Worker) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
        return
    with building("items"):
        iterator = iter(items)
    while (step := await worker.run(_next, iterator)) is not None:
        yield step[0]


def _next(iterator: Iterator[T]) -> tuple[T] | None:
    for item in iterator:
        return (item,)
    return None
