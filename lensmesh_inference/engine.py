"""One served model: an item is prepared in the pool, queued, computed in a batch, and its time is told.

The same for both model services; what an item is, and what is done with an answer, is theirs. Knows no gRPC, no
protobuf and no torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from lensmesh_chassis.errors import InternalFault, LensmeshError
from lensmesh_chassis.telemetry import spans
from lensmesh_inference.batching.batcher import Batcher, Lane, Seat
from lensmesh_inference.batching.observer import BatchObserver
from lensmesh_inference.pictures.pool import DecodePool
from lensmesh_inference.settings import ModelServiceSettings

In = TypeVar("In")
Out = TypeVar("Out")
Value = TypeVar("Value")


class Metrics(Protocol):
    """Who counts for all models of a process."""

    def observe(self, model: str, lanes: Sequence[str]) -> BatchObserver:
        """Whom one model's batcher tells what happens; `lanes` by their numbers."""

    def watch(self, engine: Batcher[Any, Any]) -> None:
        """Show a batcher's queue from now on."""


@dataclass(frozen=True)
class Timing:
    """Where one item's time went, in microseconds.

    `queue_us` is all that is neither preprocessing nor the model: waiting for room, a thread, the device.
    """

    queue_us: int
    preprocess_us: int
    compute_us: int
    total_us: int
    batch_size: int


@dataclass(frozen=True)
class Done(Generic[Value]):
    """What the model made of one item."""

    value: Value
    timing: Timing


@dataclass(frozen=True)
class Work(Generic[In]):
    """One item to be answered.

    `prepare` runs in a thread of the pool, within a span called `step`, and makes what the model takes; `size_bytes`
    is what the item holds of memory until it is answered. `deadline` is a time of the event loop's clock. `group` is
    what `group_of` will say of it, None where that is not known yet.
    """

    prepare: Callable[[], In]
    step: str
    size_bytes: int
    lane: Lane
    deadline: float | None = None
    group: Hashable | None = None


class ModelEngine(Generic[In, Out, Value]):
    """One model's way from items to answers: the decode pool, which models share, and a batcher of its own."""

    def __init__(
        self,
        workers: Sequence[Callable[[Sequence[In]], Sequence[Out | LensmeshError]]],
        *,
        name: str,
        group_of: Callable[[In], Hashable],
        finish: Callable[[In, Out], Value],
        pool: DecodePool,
        settings: ModelServiceSettings,
        metrics: Metrics,
        cost_group: Callable[[Hashable], Hashable] = lambda group: group,
    ) -> None:
        """Each of `workers` runs in its device's thread, on prepared items of one group, as `group_of` names it.

        Batches of groups with equal `cost_group` take about the same time.
        `finish` makes the answer of a prepared item and its output, or raises ``InternalFault`` where that is none.
        """
        self._group_of = group_of
        self._finish = finish
        self._pool = pool
        self.on_failure: Callable[[], None] = lambda: None
        """Called where the model fails on an item, which may be the item's fault or the model's."""
        self.batcher: Batcher[In, Out] = Batcher(
            workers,
            name=name,
            max_batch=settings.max_batch,
            max_queue_items=settings.max_queue_items,
            max_queue_bytes=settings.max_queue_bytes,
            max_wait_s=settings.max_wait_seconds,
            linger_s=settings.linger_ms / 1000,
            cost_group=cost_group,
            observer=metrics.observe(name, [lane.name.lower() for lane in Lane]),
        )
        metrics.watch(self.batcher)

    def admit(self, sizes: Sequence[int], lane: Lane, deadline: float | None = None) -> Seat:
        """Room for a whole call, given its items' bytes, or ``Overloaded``.

        Hold it as a context manager, and give it to each `answer`.
        """
        return self.batcher.admit(lane, items=len(sizes), size_bytes=sum(sizes), deadline=deadline)

    async def answer(self, work: Work[In], *, seat: Seat | None = None) -> Done[Value]:
        """Answer one item. Without a seat it waits for room, as streams do, which are read no further meanwhile.

        Raises what concerns this item alone: bad input, a missed deadline, a model that fails on it.
        """
        arrived = time.monotonic()
        if seat is not None:
            return await self._compute(work, seat, arrived)
        with await self.batcher.admit_when_room(work.lane, size_bytes=work.size_bytes) as own_seat:
            return await self._compute(work, own_seat, arrived)

    async def _compute(self, work: Work[In], seat: Seat, arrived: float) -> Done[Value]:
        with spans.span(work.step), self.batcher.coming(work.lane, work.group):
            prepared, preprocess_s = await self._pool.run(_timed, work.prepare, lane=work.lane)
        self.batcher.observer.prepared(preprocess_s)
        try:
            answer = await self.batcher.submit(
                prepared,
                lane=work.lane,
                size_bytes=work.size_bytes,
                group=self._group_of(prepared),
                deadline=work.deadline,
                seat=seat,
            )
            value = self._finish(prepared, answer.value)
        except InternalFault:
            self.on_failure()
            raise
        total_us, preprocess_us = int((time.monotonic() - arrived) * 1e6), int(preprocess_s * 1e6)
        queue_us = max(0, total_us - preprocess_us - answer.compute_us)
        timing = Timing(queue_us, preprocess_us, answer.compute_us, total_us, answer.batch_size)
        return Done(value, timing)


def _timed(prepare: Callable[[], In]) -> tuple[In, float]:
    """In the pool's thread: what it makes, and the seconds that took."""
    started = time.monotonic()
    prepared = prepare()
    return prepared, time.monotonic() - started
