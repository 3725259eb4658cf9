"""The engine of one served model: items are looked up, prepared in the pool, queued and computed in batches.

It also tells each item's times. What it is asked for together stays together, as a chunk (`chunk.py`). It is the same
for every model service; what an item is, and what is done with an answer, is the service's. It knows no gRPC, no
protobuf and no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.telemetry import spans
from lensmesh_inference.batching.batcher import Batcher, Lane
from lensmesh_inference.batching.tracing import NOT_RECORDED, ItemSpan, begin_item, call_as_item
from lensmesh_inference.cache.envelope import Codec
from lensmesh_inference.cache.single_flight import SingleFlight
from lensmesh_inference.cache.tiered import TieredCache
from lensmesh_inference.chunk import Chunk
from lensmesh_inference.images.pool import DecodePool
from lensmesh_inference.items import Completed, EngineItem, Failed, ItemOutcome
from lensmesh_inference.observer import ModelObserver
from lensmesh_inference.options import BatchingOptions
from lensmesh_inference.request import EngineParts

In = TypeVar("In")
Out = TypeVar("Out")
Value = TypeVar("Value")


@dataclass(frozen=True)
class EngineResources:
    """The resources that the engines of a process share, and the options that they have in common."""

    pool: DecodePool
    batching: BatchingOptions
    cache: TieredCache
    observer: ModelObserver


class ModelEngine(Generic[In, Out, Value]):
    """A model's way from items to answers: the decode pool and the cache, which models share, and its own batcher."""

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
        self.trusted = True
        """True where its answers are kept."""
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
        self._parts: EngineParts[In, Out, Value] = EngineParts(
            name=name,
            pool=resources.pool,
            batcher=self.batcher,
            cache=resources.cache,
            codec=codec,
            flights=SingleFlight(),
            group_of=group_of,
            finish=finish,
            trusted=lambda: self.trusted,
            failed=lambda: self.on_failure(),
        )

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
        outcomes: dict[int, ItemOutcome[Value]] = {}
        chunk = self._chunk(
            items, outcomes.__setitem__, lane, deadline, lambda index: {spans.ITEM_INDEX: index, **(attributes or {})}
        )
        await chunk.answer()
        return [outcomes[index] for index in range(len(items))]

    async def run_some(
        self,
        items: Sequence[EngineItem[In, Value] | BaseException],
        tell: Callable[[int, ItemOutcome[Value]], None],
        *,
        lane: Lane,
        deadline: float | None = None,
        attributes_of: Callable[[int], Mapping[str, Any]] = lambda _: {},
    ) -> None:
        """Answer some items of a stream, as `run_batch` does, but wait for room: a stream is read no further meanwhile.

        `tell` is called on the event loop with the index of each and its outcome, as soon as that is known. It must not
        raise. `attributes_of` returns what a span tells of the item of an index, beside the item's own attributes.
        Cancelling stops whatever no other caller waits for.
        """
        await self._chunk(items, tell, lane, deadline, attributes_of).answer_as_room_comes()

    async def run_one(
        self, item: EngineItem[In, Value], *, lane: Lane, deadline: float | None = None
    ) -> Completed[Value]:
        """Answer one item, in the current span.

        Cancelling stops it wherever it is, unless another caller waits for the same. Raises ``Overloaded`` where there
        is no room, and what concerns this item alone: bad input, a missed deadline, a model that fails on it.
        """
        outcomes: list[ItemOutcome[Value]] = []
        span = call_as_item()
        chunk = Chunk(
            self._parts,
            [item],
            lambda _, outcome: outcomes.append(outcome),
            lane=lane,
            deadline=deadline,
            span_of=lambda _: span,
        )
        await chunk.answer()
        return _completed(outcomes[0])

    async def probe(self, items: Sequence[EngineItem[In, Value]], *, device: int) -> list[Value]:
        """Have one device answer items, one after the other and without the cache. It is the question of a canary.

        Raises what the first failing item raises, and ``Overloaded`` where there is no room for all of them.
        """
        outcomes: list[ItemOutcome[Value]] = []
        size_bytes = sum(item.size_bytes for item in items)
        with self.batcher.admit(Lane.INTERACTIVE, items=len(items), size_bytes=size_bytes) as reservation:
            for item in items:
                chunk = Chunk(
                    self._parts,
                    [item],
                    lambda _, outcome: outcomes.append(outcome),
                    lane=Lane.INTERACTIVE,
                    deadline=None,
                    span_of=lambda _: NOT_RECORDED,
                    device=device,
                )
                await chunk.answer_within(reservation)
                _completed(outcomes[-1])
        return [_completed(outcome).value for outcome in outcomes]

    def _chunk(
        self,
        items: Sequence[EngineItem[In, Value] | BaseException],
        tell: Callable[[int, ItemOutcome[Value]], None],
        lane: Lane,
        deadline: float | None,
        attributes_of: Callable[[int], Mapping[str, Any]],
    ) -> Chunk[In, Out, Value]:
        def span_of(index: int) -> ItemSpan:
            item = items[index]
            own = {} if isinstance(item, BaseException) else item.attributes()
            return begin_item({**attributes_of(index), **own})

        sampled = spans.recording()
        return Chunk(
            self._parts,
            items,
            tell,
            lane=lane,
            deadline=deadline,
            span_of=span_of if sampled else lambda _: NOT_RECORDED,
        )


def _completed(outcome: ItemOutcome[Value]) -> Completed[Value]:
    if isinstance(outcome, Failed):
        raise outcome.error
    return outcome
