"""One served model: an item is prepared in the pool, queued, computed in a batch, and its time is told.

The same for both model services; what an item is, and what is done with an answer, is theirs. Knows no gRPC, no
protobuf and no torch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

from opentelemetry import trace

from lensmesh_chassis.errors import InternalFault, LensmeshError
from lensmesh_chassis.telemetry import spans
from lensmesh_inference.batching.batcher import Batcher, Lane, Seat
from lensmesh_inference.batching.observer import BatchObserver
from lensmesh_inference.cache.flights import Flights
from lensmesh_inference.cache.frames import Codec
from lensmesh_inference.cache.levels import Cache
from lensmesh_inference.cache.outcome import Outcome
from lensmesh_inference.digest import content_digest
from lensmesh_inference.images.pool import DecodePool
from lensmesh_inference.settings import ModelServiceSettings

In = TypeVar("In")
Out = TypeVar("Out")
Value = TypeVar("Value")

# Larger contents are digested beside the event loop: SHA-256 takes 2 ms for a megabyte where the CPU does not help.
_DIGEST_AT_ONCE_BYTES: Final = 16 * 1024


class Metrics(Protocol):
    """Who counts for all models of a process."""

    def observe(self, model: str, lanes: Sequence[str]) -> BatchObserver:
        """Whom one model's batcher tells what happens; `lanes` by their numbers."""

    def watch(self, engine: Batcher[Any, Any]) -> None:
        """Show a batcher's queue from now on."""


@dataclass(frozen=True)
class Timing:
    """Where one item's time went, in microseconds.

    `queue_us` is all that is neither preprocessing nor the model: waiting for room, a thread, the device, or for
    somebody else's computation of the same content. `batch_size` is 0 where the model did not run for this item.
    """

    queue_us: int
    preprocess_us: int
    compute_us: int
    total_us: int
    batch_size: int
    cache: Outcome = Outcome.UNASKED


@dataclass(frozen=True)
class Done(Generic[Value]):
    """What the model made of one item."""

    value: Value
    timing: Timing


@dataclass(eq=False)
class Work(Generic[In, Value]):
    """One item on its way to an answer.

    `prepare` runs in a thread of the pool, within a span called `step`, and makes what the model takes; `size_bytes`
    is what the item holds of memory until it is answered. `deadline` is a time of the event loop's clock. `group` is
    what `group_of` will say of it, None where that is not known yet. Where `scope` names what is made of `content`,
    equal contents of one scope have equal answers, and the cache is asked; an empty one leaves the cache out.
    `given_up` is called once nothing more is computed for it.
    """

    prepare: Callable[[], In]
    step: str
    size_bytes: int
    lane: Lane
    deadline: float | None = None
    group: Hashable | None = None
    content: bytes = b""
    scope: str = ""
    given_up: Callable[[], None] | None = None
    device: int | None = None
    """The one device that shall answer, of a work without a scope; None: any."""
    pool: DecodePool | None = None
    """Whose threads prepare it; None: the model's own pool."""
    arrived: float = field(default_factory=time.monotonic)
    key: str | None = None
    """In the cache, once it was looked up there."""
    found: Value | None = None
    """What the cache had."""


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
        cache: Cache,
        codec: Codec[Value],
        cost_group: Callable[[Hashable], Hashable] = lambda group: group,
    ) -> None:
        """Each of `workers` runs in its device's thread, on prepared items of one group, as `group_of` names it.

        Batches of groups with equal `cost_group` take about the same time.
        `finish` makes the answer of a prepared item and its output, or raises ``InternalFault`` where that is none;
        `codec` writes such answers for the cache.
        """
        self.name = name
        self._cache = cache
        cache.observer.show(name)
        self._codec = codec
        self._flights: Flights[Done[Value]] = Flights()
        self.trusted = True
        """Whether its answers are kept."""
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
            bulk_batch_s=settings.bulk_batch_ms / 1000,
            cost_group=cost_group,
            observer=metrics.observe(name, [lane.name.lower() for lane in Lane]),
        )
        metrics.watch(self.batcher)

    def trust(self, trusted: bool) -> None:
        """Whether the model answers as it should. While it does not nothing is kept, and what lies in memory, which it
        may have made when nobody knew, is forgotten."""
        if self.trusted and not trusted:
            self._cache.forget()
        self.trusted = trusted

    async def look_up(self, works: Sequence[Work[In, Value]]) -> None:
        """Ask the cache for items, all at once. What it has needs no room in the queue."""
        if not self._cache.enabled:
            return
        if len(works) == 1:
            await self._look_up(works[0])
        else:
            await asyncio.gather(*(self._look_up(work) for work in works))

    def admit(self, works: Sequence[Work[In, Value]], lane: Lane) -> AbstractContextManager[Seat | None]:
        """Room for those of a call's items that were not found in the cache, or ``Overloaded``.

        Hold it as a context manager, and give what it makes to each `answer`. An item whose content is being computed
        for somebody else has a seat too: that one may leave, and the computation goes on for who is left.
        """
        missed = [work for work in works if work.found is None]
        if not missed:
            return nullcontext()
        deadline = min((work.deadline for work in missed if work.deadline is not None), default=None)
        size_bytes = sum(work.size_bytes for work in missed)
        return self.batcher.admit(lane, items=len(missed), size_bytes=size_bytes, deadline=deadline)

    async def answer(self, work: Work[In, Value], *, seat: Seat | None = None) -> Done[Value]:
        """Answer one item. With a seat, or after `look_up` has found it, at once; else it is looked up here, and waits
        for room, as streams do, which are read no further meanwhile.

        Raises what concerns this item alone: bad input, a missed deadline, a model that fails on it.
        """
        if seat is None and work.found is None:
            await self.look_up([work])
        if work.found is not None:
            return self._told(Done(work.found, _waited(work, Outcome.HIT)))
        if seat is not None:
            return self._told(await self._miss(work, seat))
        with await self.batcher.admit_when_room(work.lane, size_bytes=work.size_bytes) as own_seat:
            return self._told(await self._miss(work, own_seat))

    async def _look_up(self, work: Work[In, Value]) -> None:
        if not work.scope or work.key is not None:
            return
        large = len(work.content) > _DIGEST_AT_ONCE_BYTES
        digest = await asyncio.to_thread(content_digest, work.content) if large else content_digest(work.content)
        work.key = self._cache.key(work.scope, digest)
        payload = await self._cache.get(work.key)
        work.found = None if payload is None else self._codec.load(payload)

    async def _miss(self, work: Work[In, Value], seat: Seat) -> Done[Value]:
        if work.key is None:
            return await self._compute(work, seat)
        # It may have been computed while this one waited for room.
        payload = self._cache.get_here(work.key)
        found = None if payload is None else self._codec.load(payload)
        if found is not None:
            return Done(found, _waited(work, Outcome.HIT))
        landed = await self._flights.share(work.key, work.lane, work.deadline, lambda: self._compute(work, seat))
        if landed.own:
            return landed.value
        return Done(landed.value.value, _waited(work, Outcome.COALESCED))

    def _told(self, done: Done[Value]) -> Done[Value]:
        outcome = done.timing.cache
        if outcome is not Outcome.UNASKED:
            self._cache.observer.answered(self.name, outcome)
            trace.get_current_span().set_attribute(spans.CACHE, str(outcome))
        return done

    async def _compute(self, work: Work[In, Value], seat: Seat) -> Done[Value]:
        try:
            done = await self._prepare_and_compute(work, seat)
        finally:
            if work.given_up is not None:
                work.given_up()
        if work.key is not None and self.trusted:
            self._cache.put(work.key, self._codec.dump(done.value))
        return done

    async def _prepare_and_compute(self, work: Work[In, Value], seat: Seat) -> Done[Value]:
        with spans.span(work.step), self.batcher.coming(work.lane, work.group):
            prepared, preprocess_s = await (work.pool or self._pool).run(_timed, work.prepare, lane=work.lane)
        self.batcher.observer.prepared(preprocess_s)
        group = self._group_of(prepared)
        assert work.group in (None, group), f"{work.group} was said of an item of {group}: batches waited in vain"
        try:
            answer = await self.batcher.submit(
                prepared,
                lane=work.lane,
                size_bytes=work.size_bytes,
                group=group,
                deadline=work.deadline,
                seat=seat,
                device=work.device,
            )
            value = self._finish(prepared, answer.value)
        except InternalFault:
            self.on_failure()
            raise
        total_us, preprocess_us = _total_us(work), int(preprocess_s * 1e6)
        queue_us = max(0, total_us - preprocess_us - answer.compute_us)
        outcome = Outcome.UNASKED if work.key is None else Outcome.MISS
        timing = Timing(queue_us, preprocess_us, answer.compute_us, total_us, answer.batch_size, outcome)
        return Done(value, timing)


def _waited(work: Work[Any, Any], outcome: Outcome) -> Timing:
    """The timing of an item that was not computed for itself."""
    total_us = _total_us(work)
    return Timing(total_us if outcome is Outcome.COALESCED else 0, 0, 0, total_us, 0, outcome)


def _total_us(work: Work[Any, Any]) -> int:
    return int((time.monotonic() - work.arrived) * 1e6)


def _timed(prepare: Callable[[], In]) -> tuple[In, float]:
    """In the pool's thread: what it makes, and the seconds that took."""
    started = time.monotonic()
    prepared = prepare()
    return prepared, time.monotonic() - started
