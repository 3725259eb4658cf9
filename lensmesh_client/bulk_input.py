"""Reads a caller's images and texts for a bulk stream, a few ahead of the network and off the event loop."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import TypeVar

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
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


def ingest_entry(index: int, item: IngestItem | ImageLike, limits: Limits) -> tuple[Entry, LensmeshError | None]:
    """Make the entry of an item to ingest, and tell why it cannot be sent, if it cannot."""
    item = item if isinstance(item, IngestItem) else IngestItem(item)
    try:
        sent = message(item, limits)
    except LensmeshError as error:
        return Entry(index, item.ref, router_pb2.IngestItem(ref=str(index)), 0), error
    sent.ref = str(index)
    return _fitting(Entry(index, item.ref, sent, sent.ByteSize(), sent.id or sent.content_digest.hex()), limits)


def image_entry(index: int, image: ImageLike, limits: Limits) -> tuple[Entry, LensmeshError | None]:
    """Make the entry of an image to embed, and tell why it cannot be sent, if it cannot."""
    sent = encoder_pb2.EncodeStreamItem(ref=str(index))
    try:
        sent.image.content = image_bytes(image, max_bytes=limits.max_image_bytes)
    except LensmeshError as error:
        return Entry(index, "", sent, 0), error
    return _fitting(Entry(index, "", sent, sent.ByteSize()), limits)


def text_entry(index: int, text: str, limits: Limits) -> tuple[Entry, LensmeshError | None]:
    """Make the entry of a text to embed, and tell why it cannot be sent, if it cannot."""
    sent = encoder_pb2.EncodeStreamItem(ref=str(index))
    try:
        sent.text = check_text(text, "text")
    except LensmeshError as error:
        return Entry(index, "", sent, 0), error
    return _fitting(Entry(index, "", sent, sent.ByteSize()), limits)


def caption_entry(index: int, image: ImageLike, limits: Limits) -> tuple[Entry, LensmeshError | None]:
    """Make the entry of an image to describe, and tell why it cannot be sent, if it cannot."""
    sent = caption_pb2.CaptionStreamItem(ref=str(index))
    try:
        sent.image.content = image_bytes(image, max_bytes=limits.max_image_bytes)
    except LensmeshError as error:
        return Entry(index, "", sent, 0), error
    return _fitting(Entry(index, "", sent, sent.ByteSize()), limits)


def _fitting(entry: Entry, limits: Limits) -> tuple[Entry, LensmeshError | None]:
    """Refuse what the server cannot take: its message would end the stream for all others."""
    entry.size_bytes += ITEM_OVERHEAD_BYTES
    size = entry.size_bytes
    if not limits.max_message_bytes or size <= limits.max_message_bytes:
        return entry, None
    return dataclasses.replace(entry, size_bytes=0, key=""), InvalidInput(
        Reason.MESSAGE_TOO_LARGE,
        f"the item has {size} bytes, the server takes {limits.max_message_bytes}: send a smaller image",
        field="image",
    )


async def feed(
    items: AsyncIterable[T] | Iterable[T],
    read: Callable[[int, T, Limits], tuple[Entry, LensmeshError | None]],
    limits: Limits,
    window: Window,
    refuse: Callable[[Entry, LensmeshError], None],
) -> None:
    """Admit every item of the input; a plain iterable is stepped in one thread of its own, since it may block."""
    worker = Worker("lensmesh-input")
    index = 0
    try:
        async for item in _steps(items, worker):
            entry, error = await worker.run(read, index, item, limits)
            await window.admit(entry, send=error is None)
            if error is not None:
                refuse(entry, error)
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
