"""A request of a model on its way: digest, look-up, decoding, queue, device, answer.

A thread does the first three in one go (`preparation.py`); everything else happens on the event loop, and so do these
three for a brief item of a call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from lensmesh_chassis.errors import InternalFault
from lensmesh_chassis.telemetry import spans
from lensmesh_inference.batching.batcher import Batcher, ItemOutput, Lane, Reservation
from lensmesh_inference.batching.lanes import QueuedItem
from lensmesh_inference.batching.tracing import NOT_RECORDED, ItemSpan
from lensmesh_inference.cache.envelope import Codec
from lensmesh_inference.cache.observer import CacheOutcome
from lensmesh_inference.cache.single_flight import Caller, SingleFlight
from lensmesh_inference.cache.tiered import TieredCache
from lensmesh_inference.digest import content_digest
from lensmesh_inference.images.pool import DecodePool
from lensmesh_inference.items import Completed, EngineItem, Failed, ItemOutcome, Timing

if TYPE_CHECKING:
    from lensmesh_inference.preparation import Preparation

In = TypeVar("In")
Out = TypeVar("Out")
Value = TypeVar("Value")


@dataclass(frozen=True)
class EngineParts(Generic[In, Out, Value]):
    """Parts that all requests of one engine share."""

    name: str
    pool: DecodePool
    batcher: Batcher[In, Out]
    cache: TieredCache
    codec: Codec[Value]
    flights: SingleFlight[Completed[Value]]
    group_of: Callable[[In], Hashable]
    finish: Callable[[In, Out], Value]
    trusted: Callable[[], bool]
    """A function that says whether answers are kept."""
    failed: Callable[[], None]
    """A function that is called where the model fails on an item."""

    def look_here(self, key: str) -> Value | None:
        """Return the answer under a key, if it is in memory."""
        payload = self.cache.get_here(key)
        return None if payload is None else self.codec.load(payload)


class Origin(Protocol):
    """Owner of a request: the call, or the part of a stream, that it came with."""

    def start(self, requests: list[Any]) -> None:
        """Have requests prepared."""

    def told(self, index: int, outcome: ItemOutcome[Any]) -> None:
        """Take the outcome of a request. It must not raise."""


class Request(Caller[Completed[Value]], Generic[In, Out, Value]):
    """An item on its way. `index` is its place in its origin; `deadline` is a time of the event loop's clock.

    With `device`, the device of that number shall answer, without a look-up.
    """

    def __init__(
        self,
        parts: EngineParts[In, Out, Value],
        origin: Origin,
        index: int,
        item: EngineItem[In, Value],
        *,
        lane: Lane,
        deadline: float | None,
        device: int | None,
    ) -> None:
        super().__init__(lane, deadline)
        self.parts = parts
        self.item = item
        self.span: ItemSpan = NOT_RECORDED
        self.arrived = time.monotonic()
        self.cached = bool(item.scope) and device is None and parts.cache.enabled
        """True where the cache is asked for it."""
        self._digest = ""
        self.key: str | None = None
        """The key in the cache, once the content was digested."""
        self.alone = False
        """True where it is computed without regard to others."""
        self.over = False
        """True where its outcome was told, or nobody waits for it."""
        self.stopped = False
        """True where nobody wants what is computed for it."""
        self.index = index
        self.value: Value | None = None
        """The answer that the cache had."""
        self._origin = origin
        self._device = device
        self._reservation: Reservation | None = None
        self._expected = False
        self._entry: QueuedItem[In, ItemOutput[Out]] | None = None
        self._preprocess_s = 0.0

    def digest(self) -> str:
        """Digest the content, and return the key of the answer."""
        if self.key is None:
            self._digest = content_digest(self.item.content)
            self.key = self.parts.cache.key(self.item.scope, self._digest)
        return self.key

    def begin(self, span: ItemSpan) -> None:
        """Take a span, which ends with the outcome."""
        self.span = span

    def admitted(self, reservation: Reservation) -> None:
        """Take room in the queue. It is given back with the outcome."""
        self._reservation = reservation
        self._expect()

    def found(self, value: Value) -> None:
        """Answer with what the cache has."""
        self._complete(value, self._waited(CacheOutcome.HIT))

    def prepared(self, job: Preparation[In, Out, Value]) -> None:
        """Go on with what was prepared."""
        if self.stopped:
            return
        if job.error is None and job.found is None and not job.waits:
            self._queue(job)
            return
        self._expect_no_more()
        if job.found is not None:
            self.found(job.found)
        elif job.error is not None:
            self._give_up()
            self._ended(job.error)
        else:
            self.parts.flights.waits(self)

    def abandon(self, error: BaseException) -> None:
        """Wait no longer, because of `error`. What is computed goes on only if others wait for it."""
        self.span.fail(error)
        self._end()
        self.parts.flights.leave(self)

    def hear(self, value: Completed[Value], *, own: bool) -> None:
        self._complete(value.value, value.timing if own else self._waited(CacheOutcome.COALESCED))

    def fail(self, error: Exception) -> None:
        if not self.over:
            self.span.fail(error)
            self._end()
            self._origin.told(self.index, Failed(error, self._total_us))

    def try_again(self, *, alone: bool) -> None:
        self.alone = alone
        self._expect()
        self._origin.start([self])

    def stop(self) -> None:
        self.stopped = True
        self._expect_no_more()
        if self._entry is not None:
            self.parts.batcher.withdraw(self._entry)
        self._give_up()

    @property
    def _total_us(self) -> int:
        return int((time.monotonic() - self.arrived) * 1e6)

    def _waited(self, outcome: CacheOutcome) -> Timing:
        """Return the timing of an item that was not computed for itself."""
        total_us = self._total_us
        return Timing(total_us if outcome is CacheOutcome.COALESCED else 0, 0, 0, total_us, 0, outcome)

    def _expect(self) -> None:
        self._expected = True
        self.parts.batcher.expect(self.lane, self.item.group)

    def _expect_no_more(self) -> None:
        if self._expected:
            self._expected = False
            self.parts.batcher.expect_no_more(self.lane, self.item.group)

    def _give_up(self) -> None:
        if self.item.given_up is not None:
            self.item.given_up()

    def _queue(self, job: Preparation[In, Out, Value]) -> None:
        parts, item, prepared = self.parts, self.item, job.prepared
        assert prepared is not None, "what is neither found nor failed is prepared"
        self._preprocess_s = job.seconds
        parts.batcher.observer.prepared(job.seconds, self.span.exemplar)
        try:
            group = parts.group_of(prepared)
            assert item.group in (None, group), f"{item.group} was said of an item of {group}: batches waited in vain"
            self._entry = parts.batcher.put(
                prepared,
                self._answered,
                lane=self.lane,
                group=group,
                deadline=self.deadline,
                device=self._device,
                span=self.span,
            )
        except Exception as error:  # noqa: BLE001 - the queue is closed: an answer as any other
            self._give_up()
            self._ended(error)
        finally:
            self._expect_no_more()

    def _answered(self, entry: QueuedItem[In, ItemOutput[Out]]) -> None:
        """Go on with the model's answer."""
        parts = self.parts
        self._entry = None
        self._give_up()
        try:
            if entry.error is not None:
                raise entry.error
            output = entry.output
            assert output is not None, "what has no error has an output"
            parts.batcher.observer.waited(self.lane, output.queue_us / 1e6, self.span.exemplar)
            value = parts.finish(entry.item, output.value)
            if self.key is not None and parts.trusted():
                parts.cache.put(self.key, parts.codec.dump(value))
                if self.item.part is not None:
                    scope, part_of = self.item.part
                    parts.cache.put(parts.cache.key(scope, self._digest), parts.codec.dump(part_of(value)))
        except Exception as error:  # noqa: BLE001 - it is told as the item's outcome
            if isinstance(error, InternalFault):
                parts.failed()
            self._ended(error)
            return
        completed = Completed(value, self._timing(output))
        if self.flight is not None:
            parts.flights.succeeded(self, completed)
        else:
            self.hear(completed, own=True)

    def _timing(self, output: ItemOutput[Out]) -> Timing:
        total_us, preprocess_us = self._total_us, int(self._preprocess_s * 1e6)
        queue_us = max(0, total_us - preprocess_us - output.compute_us)
        outcome = CacheOutcome.UNASKED if self.key is None else CacheOutcome.MISS
        return Timing(queue_us, preprocess_us, output.compute_us, total_us, output.batch_size, outcome)

    def _ended(self, error: Exception) -> None:
        """Tell that nothing came of what was computed for it."""
        if self.flight is not None:
            self.parts.flights.failed(self, error)
        else:
            self.fail(error)

    def _complete(self, value: Value, timing: Timing) -> None:
        if self.over:
            return
        if timing.cache is not CacheOutcome.UNASKED:
            self.parts.cache.observer.answered(self.parts.name, timing.cache)
            self.span.set_attribute(spans.CACHE, str(timing.cache))
        try:
            value = value if self.item.convert is None else self.item.convert(value)
        except Exception as error:  # noqa: BLE001 - it is told as the item's outcome
            self.fail(error)
            return
        self._end()
        self._origin.told(self.index, Completed(value, timing))

    def _end(self) -> None:
        self.over = True
        reservation, self._reservation = self._reservation, None
        if reservation is not None:
            reservation.give_back(self.item.size_bytes)
        self.span.end()
