"""An engine of a model that doubles numbers, whose items can be held in the threads and in the device."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from lensmesh_chassis.errors import InternalFault, InvalidInput, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.batching.batcher import Lane
from lensmesh_inference.cache.tiered import TieredCache
from lensmesh_inference.engine import EngineResources, ModelEngine
from lensmesh_inference.images.pool import DecodePool
from lensmesh_inference.items import EngineItem, ItemOutcome
from lensmesh_inference.observer import NullModelObserver
from lensmesh_inference.options import BatchingOptions

Engine = ModelEngine[int, int, int]
# Contents of this size are digested in the threads that prepare them.
LARGE = 20_000


class Doubler:
    """A model that doubles numbers; it can be held, says of 13 that this one is bad, and breaks on 666."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()
        self.inside = threading.Event()
        self.batches: list[list[int]] = []

    def compute(self, batch: Sequence[int]) -> Sequence[int | LensmeshError]:
        self.inside.set()
        assert self.free.wait(60)
        self.batches.append(list(batch))
        if 666 in batch:
            raise ValueError("secret words of the model")
        return [InternalFault(Reason.MODEL_FAILED, "13 it cannot") if number == 13 else 2 * number for number in batch]


class NumberCodec:
    """Numbers as text."""

    def dump(self, value: int) -> bytes:
        return str(value).encode()

    def load(self, payload: bytes) -> int | None:
        return int(payload)


@asynccontextmanager
async def started(
    model: Doubler, cache: TieredCache | None = None, *, threads: int = 2, **options: int
) -> AsyncIterator[Engine]:
    pool = DecodePool(threads)
    resources = EngineResources(pool, BatchingOptions(**options), cache or TieredCache(), NullModelObserver())
    engine: Engine = ModelEngine(
        [model.compute],
        resources,
        name="doubler",
        group_of=lambda _: "numbers",
        finish=lambda _, output: output,
        codec=NumberCodec(),
    )
    await engine.batcher.start()
    try:
        yield engine
    finally:
        model.free.set()
        await engine.batcher.stop()
        await pool.close()


def item(number: int, *, plus: int = 0, size: int = 0) -> EngineItem[int, int]:
    """An item whose content has at least `size` bytes; numbers below 0 cannot be prepared."""

    def prepare() -> int:
        if number < 0:
            raise InvalidInput(Reason.OPTION_INVALID, "a number below 0", field="number")
        return number

    content, scope = str(number).encode().ljust(size), "numbers"
    return EngineItem(prepare=prepare, size_bytes=1, content=content, scope=scope, convert=lambda value: value + plus)


async def streamed(
    engine: Engine, items: Sequence[EngineItem[int, int]], *, deadline: float | None = None
) -> list[ItemOutcome[int]]:
    """The outcomes of a chunk of a stream, in the order of its items."""
    told: dict[int, ItemOutcome[int]] = {}
    await engine.run_some(items, told.__setitem__, lane=Lane.BULK, deadline=deadline)
    return [told[place] for place in range(len(items))]
