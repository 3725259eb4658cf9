"""A model that doubles numbers, whose device can be held."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from lensmesh_chassis.errors import (
    InvalidInput,
    LensmeshError,
)
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.batching.batcher import Batcher, ItemOutput, Lane
from lensmesh_inference.options import BatchingOptions
from tests.inference.batching.asking import submit
from tests.support.waiting import until


class Doubler:
    """A model that doubles numbers. It can be held, it can be poisoned, and it remembers its batches and threads."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[str] = set()
        self.poison: set[int] = set()
        self.bad: set[int] = set()
        self.short = False
        self.free = threading.Event()
        self.free.set()
        self.inside = threading.Event()

    def __call__(self, items: Sequence[int]) -> Sequence[int | LensmeshError]:
        self.inside.set()
        assert self.free.wait(30)
        self.batches.append(list(items))
        self.threads.add(threading.current_thread().name)
        if self.poison & set(items):
            raise ValueError("secret text of the model")
        if self.short:
            return []
        return [InvalidInput(Reason.OPTION_INVALID, "bad") if item in self.bad else item * 2 for item in items]


@asynccontextmanager
async def started(model: Doubler, **limits: int) -> AsyncIterator[Batcher[int, int]]:
    settings: dict[str, Any] = {"max_batch": 4, "max_queue_items": 100, "max_queue_bytes": 10_000, **limits}
    batcher: Batcher[int, int] = Batcher([model], name="doubler", options=BatchingOptions(**settings))
    await batcher.start()
    try:
        yield batcher
    finally:
        model.free.set()
        await batcher.stop()


def put(batcher: Batcher[int, int], item: int, lane: Lane = Lane.BULK, **more: Any) -> asyncio.Task[ItemOutput[int]]:
    return asyncio.create_task(submit(batcher, item, lane=lane, size_bytes=10, **more))


async def hold(model: Doubler, batcher: Batcher[int, int]) -> asyncio.Task[ItemOutput[int]]:
    """One item in the device, which works until the model is freed: what follows has to queue."""
    model.free.clear()
    model.inside.clear()
    task = put(batcher, 0)
    await until(model.inside.is_set)
    return task
