"""One item of a batcher, as a coroutine: it is queued, and its answer is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from lensmesh_inference.batching.batcher import Batcher, ItemOutput, Lane, Reservation
from lensmesh_inference.batching.tracing import ItemSpan, call_as_item

In = TypeVar("In")
Out = TypeVar("Out")


async def submit(
    batcher: Batcher[In, Out],
    item: In,
    *,
    lane: Lane,
    size_bytes: int,
    group: Hashable = None,
    deadline: float | None = None,
    reservation: Reservation | None = None,
    device: int | None = None,
    span: ItemSpan | None = None,
) -> ItemOutput[Out]:
    """Queue one item and wait for its answer, as an engine does. Cancelling takes the item out of the queue.

    Without a reservation it is admitted first; without a span of its own, the current one is the item's.
    """
    own = batcher.admit(lane, items=1, size_bytes=size_bytes) if reservation is None else None
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def tell(_: object) -> None:
        if not over.done():
            over.set_result(None)

    try:
        span = span or call_as_item()
        entry = batcher.put(item, tell, lane=lane, group=group, deadline=deadline, device=device, span=span)
        try:
            await over
        finally:
            batcher.withdraw(entry)
        if entry.error is not None:
            raise entry.error
        assert entry.output is not None, "what has ended without an error has an output"
        return entry.output
    finally:
        if own is not None:
            own.release()


@contextmanager
def coming(batcher: Batcher[In, Out], lane: Lane, group: Hashable | None = None) -> Iterator[None]:
    """Mark one item as being prepared. `group` is None where it is not known before."""
    batcher.expect(lane, group)
    try:
        yield
    finally:
        batcher.expect_no_more(lane, group)
