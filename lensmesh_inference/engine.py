"""The engine of one served model: an item is looked up, prepared in the pool, queued and computed in a batch.

It also tells each item's times. It is the same for every model service; what an item is, and what is done with an
answer, is the service's. It knows no gRPC, no protobuf and no torch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from opentelemetry import trace

from lensmesh_chassis.errors import InternalFault, LensmeshError
from lensmesh_chassis.telemetry import spans
from lensmesh_inference.batching.batcher import Batcher, Lane, Reservation
from lensmesh_inference.batching.tracing import item_span
from lensmesh_inference.cache.envelope import Codec
from lensmesh_inference.cache.observer import CacheOutcome
from lensmesh_inference.cache.single_flight import SingleFlight
from lensmesh_inference.cache.tiered import TieredCache
from lensmesh_inference.digest import content_digest
from lensmesh_inference.images.pool import DecodePool
from lensmesh_inference.items import Completed, EngineItem, Failed, ItemOutcome, Timing
from lensmesh_inference.observer import ModelObserver
from lensmesh_inference.options import BatchingOptions

In = TypeVar("In")
Out = TypeVar("Out")
Value = TypeVar("Value")

# Larger contents are digested beside the event loop: SHA-256 takes 2 ms for a megabyte where the CPU does not help.
_DIGEST_AT_ONCE_BYTES: Final = 16 * 1024


@dataclass(frozen=True)
class EngineResources:
    """The resources that the engines of a process share, and the options that they have in common."""

    pool: DecodePool
    batching: BatchingOptions
    cache: TieredCache
    observer: ModelObserver


@dataclass(eq=False)
class _Request(Generic[In, Value]):
    """One item on its way. `deadline` is a time of the event loop's clock."""

    item: EngineItem[In, Value]
    lane: Lane
    deadline: float | None
    device: int | None = None
    """The number of the device that shall answer, without a look-up; None: any device."""
    arrived: float = field(default_factory=time.monotonic)
    key: str | None = None
    """The key in the cache, once the item was looked up."""
    found: Value | None = None
    """The answer that the cache had."""

    @property
    def total_us(self) -> int:
        """The microseconds since it came."""
        return _us_since(self.arrived)

    def waited(self, outcome: CacheOutcome) -> Timing:
        """Return the timing of an item that was not computed for itself."""
        total_us = self.total_us
        return Timing(total_us if outcome is CacheOutcome.COALESCED else 0, 0, 0, total_us, 0, outcome)


class ModelEngine(Generic[In, Out, Value]):
    """One model's way from items to answers: the decode pool and the cache, which models share, and its own batcher."""

    def __init__(
        self,
        workers: Sequence[Callable[[Sequence[In]], Sequence[Out | LensmeshError]]],
        resources: EngineResources,
        *,
        name: str,
        group_of: Callable[[In], Hashable],
        finish: Callable[[In, Out], Value],
        codec: Codec[Value],
        cost_group: Callable[[Hashable], Hashable] = lambda group: group,
    ) -> None:
        """Build the engine around `workers`. Each runs in its device's thread, on prepared items of one group.

        `group_of` names the group of a prepared item. Batches of groups with equal `cost_group` take about the same
        time. `finish` makes the answer of a prepared item and its output, or raises ``InternalFault`` where the output
        is no answer. `codec` writes such answers for the cache.
        """
        self.name = name
        self._cache = resources.cache
        self._cache.observer.show(name)
        self._codec = codec
        self._computing: SingleFlight[Completed[Value]] = SingleFlight()
        self.trusted = True
        """Whether its answers are kept."""
        self._group_of = group_of
        self._finish = finish
        self._pool = resources.pool
        self.on_failure: Callable[[], None] = lambda: None
        """A function that is called where the model fails on an item. It may be the item's fault or the model's."""
        self.batcher: Batcher[In, Out] = Batcher(
            workers,
            name=name,
            options=resources.batching,
            cost_group=cost_group,
            observer=resources.observer.observe(name, [lane.name.lower() for lane in Lane]),
        )
        resources.observer.watch(self.batcher)

    def trust(self, trusted: bool) -> None:
        """Say whether the model answers as it should.

        While it does not, nothing is kept. What lies in memory is forgotten, because the model may have made it when
        nobody knew.
        """
        if self.trusted and not trusted:
            self._cache.forget()
        self.trusted = trusted

    async def run_batch(
        self,
        items: Sequence[EngineItem[In, Value] | BaseException],
        *,
        lane: Lane,
        deadline: float | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> list[ItemOutcome[Value]]:
        """Answer the items of one call: one outcome for each, in order.

        An item that could not be read is given as its error, and fails with it. `deadline` is a time of the event
        loop's clock. Each item has its own span, with `attributes` and the item's. What the cache has needs no room. An
        item whose content is being computed for another caller needs room too: that caller may leave, and the
        computation then goes on for this one. Raises ``Overloaded`` for all items where there is no room for the
        others, or where they would wait for longer than allowed or than until the deadline.
        """
        asked = [item if isinstance(item, BaseException) else _Request(item, lane, deadline) for item in items]
        requests = [one for one in asked if isinstance(one, _Request)]
        await self._look_up(requests)
        with self._reserve(requests) as reservation:
            outcomes = (self._outcome(index, one, attributes, reservation) for index, one in enumerate(asked))
            return await asyncio.gather(*outcomes)

    async def run_one(
        self, item: EngineItem[In, Value], *, lane: Lane, deadline: float | None = None, wait_for_room: bool = True
    ) -> Completed[Value]:
        """Answer one item, in the current span. It waits for room, as streams do; they are read no further meanwhile.

        Cancelling stops it wherever it is, unless another caller waits for the same. Raises what concerns this item
        alone: bad input, a missed deadline, a model that fails on it. Raises ``Overloaded`` where it shall not wait.
        """
        request = _Request(item, lane, deadline)
        await self._look_up([request])
        if not wait_for_room:
            with self._reserve([request]) as reservation:
                return await self._complete(request, reservation)
        if request.found is not None:
            return await self._complete(request, None)
        with await self.batcher.admit_when_room(lane, size_bytes=item.size_bytes) as reservation:
            return await self._complete(request, reservation)

    async def probe(self, items: Sequence[EngineItem[In, Value]], *, device: int) -> list[Value]:
        """Have one device answer items, one after the other and without the cache. It is the question of a canary.

        Raises what the first failing item raises, and ``Overloaded`` where there is no room for all of them.
        """
        requests = [_Request(item, Lane.INTERACTIVE, None, device) for item in items]
        with self._reserve(requests) as reservation:
            return [(await self._complete(request, reservation)).value for request in requests]

    async def _outcome(
        self,
        index: int,
        asked: _Request[In, Value] | BaseException,
        attributes: Mapping[str, Any] | None,
        reservation: Reservation | None,
    ) -> ItemOutcome[Value]:
        """Answer one item of a call, with an error if need be."""
        arrived = time.monotonic()
        try:
            with item_span(index, attributes) as span:
                if isinstance(asked, BaseException):
                    raise asked
                span.set_attributes(asked.item.attributes)
                return await self._complete(asked, reservation)
        except Exception as error:  # noqa: BLE001 - an item fails alone; what is not meant for callers is told to the log
            return Failed(error, _us_since(arrived))

    async def _look_up(self, requests: Sequence[_Request[In, Value]]) -> None:
        """Ask the cache for items, all at once."""
        if not self._cache.enabled:
            return
        if len(requests) == 1:
            await self._look_one_up(requests[0])
        else:
            await asyncio.gather(*(self._look_one_up(request) for request in requests))

    async def _look_one_up(self, request: _Request[In, Value]) -> None:
        item = request.item
        if not item.scope:
            return
        large = len(item.content) > _DIGEST_AT_ONCE_BYTES
        digest = await asyncio.to_thread(content_digest, item.content) if large else content_digest(item.content)
        request.key = self._cache.key(item.scope, digest)
        payload = await self._cache.get(request.key)
        request.found = None if payload is None else self._codec.load(payload)

    def _reserve(self, requests: Sequence[_Request[In, Value]]) -> AbstractContextManager[Reservation | None]:
        """Reserve room for those of a call's items that were not found in the cache, or raise ``Overloaded``."""
        missed = [request for request in requests if request.found is None]
        if not missed:
            return nullcontext()
        size_bytes = sum(request.item.size_bytes for request in missed)
        first = missed[0]
        return self.batcher.admit(first.lane, items=len(missed), size_bytes=size_bytes, deadline=first.deadline)

    async def _complete(self, request: _Request[In, Value], reservation: Reservation | None) -> Completed[Value]:
        """Answer what was found, or compute it. Without a reservation it must have been found."""
        if request.found is not None:
            completed = Completed(request.found, request.waited(CacheOutcome.HIT))
        else:
            assert reservation is not None, "what is not in the cache needs room"
            completed = await self._miss(request, reservation)
        self._record_outcome(completed.timing.cache)
        convert = request.item.convert
        return completed if convert is None else Completed(convert(completed.value), completed.timing)

    def _record_outcome(self, outcome: CacheOutcome) -> None:
        if outcome is not CacheOutcome.UNASKED:
            self._cache.observer.answered(self.name, outcome)
            trace.get_current_span().set_attribute(spans.CACHE, str(outcome))

    async def _miss(self, request: _Request[In, Value], reservation: Reservation) -> Completed[Value]:
        if request.key is None:
            return await self._compute(request, reservation)
        # It may have been computed while this one waited for room.
        payload = self._cache.get_here(request.key)
        found = None if payload is None else self._codec.load(payload)
        if found is not None:
            return Completed(found, request.waited(CacheOutcome.HIT))
        shared = await self._computing.share(
            request.key, request.lane, request.deadline, lambda: self._compute(request, reservation)
        )
        return shared.value if shared.own else Completed(shared.value.value, request.waited(CacheOutcome.COALESCED))

    async def _compute(self, request: _Request[In, Value], reservation: Reservation) -> Completed[Value]:
        try:
            completed = await self._prepare_and_compute(request, reservation)
        finally:
            if request.item.given_up is not None:
                request.item.given_up()
        if request.key is not None and self.trusted:
            self._cache.put(request.key, self._codec.dump(completed.value))
        return completed

    async def _prepare_and_compute(self, request: _Request[In, Value], reservation: Reservation) -> Completed[Value]:
        item, lane = request.item, request.lane
        with spans.span(item.step), self.batcher.coming(lane, item.group):
            prepared, preprocess_s = await (item.pool or self._pool).run(_timed, item.prepare, lane=lane)
        self.batcher.observer.prepared(preprocess_s)
        group = self._group_of(prepared)
        assert item.group in (None, group), f"{item.group} was said of an item of {group}: batches waited in vain"
        try:
            output = await self.batcher.submit(
                prepared,
                lane=lane,
                size_bytes=item.size_bytes,
                group=group,
                deadline=request.deadline,
                reservation=reservation,
                device=request.device,
            )
            value = self._finish(prepared, output.value)
        except InternalFault:
            self.on_failure()
            raise
        total_us, preprocess_us = request.total_us, int(preprocess_s * 1e6)
        queue_us = max(0, total_us - preprocess_us - output.compute_us)
        outcome = CacheOutcome.UNASKED if request.key is None else CacheOutcome.MISS
        return Completed(
            value, Timing(queue_us, preprocess_us, output.compute_us, total_us, output.batch_size, outcome)
        )


def _us_since(moment: float) -> int:
    return int((time.monotonic() - moment) * 1e6)


def _timed(prepare: Callable[[], In]) -> tuple[In, float]:
    """Prepare an item in the pool's thread. Return the prepared item, and the seconds that it took."""
    started = time.monotonic()
    prepared = prepare()
    return prepared, time.monotonic() - started
