"""The run of a batch on a device, and the fate of its items: answered, halved and tried again, or blamed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from opentelemetry import context
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN

from lensmesh_chassis.errors import DeadlineExceeded, InternalFault, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry import spans
from lensmesh_chassis.telemetry.exemplars import exemplar
from lensmesh_inference.batching.costs import Costs
from lensmesh_inference.batching.devices import DeviceWorker, Ran
from lensmesh_inference.batching.faults import DeviceLost, OutOfMemory
from lensmesh_inference.batching.lanes import Lane, QueuedItem
from lensmesh_inference.batching.observer import BatchObserver, Exemplar
from lensmesh_inference.batching.tracing import batch_span

In = TypeVar("In")
Out = TypeVar("Out")

_log = logging.getLogger(__name__)


class ItemOutput(NamedTuple, Generic[Out]):
    """The output of one item, and where its time went."""

    value: Out
    queue_us: int
    compute_us: int
    batch_size: int


class Execution(Generic[In, Out]):
    """The runner of one model's batches. It teaches `costs` how long they took.

    `is_late` says of an entry whether its deadline can no longer be met at a time of `clock`.
    """

    def __init__(
        self,
        name: str,
        costs: Costs,
        *,
        kind_of: Callable[[Hashable], Hashable],
        is_late: Callable[[QueuedItem[In, ItemOutput[Out]], float], bool],
        observer: BatchObserver,
        clock: Callable[[], float],
    ) -> None:
        self._name = name
        self._costs = costs
        self._kind_of = kind_of
        self._is_late = is_late
        self._observer = observer
        self._clock = clock
        self._batches = 0

    async def run(
        self,
        device: DeviceWorker[In, Out | LensmeshError],
        batch: list[QueuedItem[In, ItemOutput[Out]]],
        inside: Context | None = None,
    ) -> None:
        """Run the batch. If it fails, run its halves, so that in the end only the items that cannot be computed fail.

        `inside` is the context of the span of the batch that this one is a half of. Raises ``DeviceLost``.
        """
        batch = self._still_wanted(batch)
        if not batch:
            return
        if len(batch) > device.limit:
            # The device ran out of memory since this batch was made.
            await self._run_halves(device, batch, inside)
            return
        facts = {spans.MODEL: self._name, spans.BATCH_SIZE: len(batch)}
        ran: Ran[Out | LensmeshError] | None = None
        with batch_span((entry.trace for entry in batch), facts, inside) as span:
            try:
                ran = await self._run_at_once(device, batch, exemplar(span) if span is not INVALID_SPAN else None)
            except Exception as error:
                # Without its words: an error that nobody foresaw may quote what it was given.
                spans.fail(span, error)
                if isinstance(error, DeviceLost):
                    _put_back(batch)
                    raise
                if isinstance(error, OutOfMemory):
                    self._observer.out_of_memory()
                    device.ran_out_of_memory(len(batch))
                if len(batch) == 1:
                    self._blame(batch[0], error)
                    return
                if not isinstance(error, OutOfMemory):
                    self._observer.batch_failed()
                    _log.warning("%s failed on a batch of %d, trying its halves: %r", self._name, len(batch), error)
                _put_back(batch)
            if ran is None:
                await self._run_halves(device, batch, context.get_current())
                return
        # Outside of the batch's span, which is no item's.
        _answer(batch, ran)

    async def _run_halves(
        self,
        device: DeviceWorker[In, Out | LensmeshError],
        batch: list[QueuedItem[In, ItemOutput[Out]]],
        inside: Context | None,
    ) -> None:
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            await self.run(device, half, inside)

    async def _run_at_once(
        self,
        device: DeviceWorker[In, Out | LensmeshError],
        batch: list[QueuedItem[In, ItemOutput[Out]]],
        leads_to: Exemplar | None,
    ) -> Ran[Out | LensmeshError]:
        """Run the batch as it is. If the worker raises, this raises the same."""
        kind, items = self._kind_of(batch[0].group), len(batch)
        self._batches += 1
        ran = await device.run(
            [entry.item for entry in batch],
            self._batches,
            self._costs.seconds(kind, items),
            seen=self._costs.has_run(device.number, kind, items),
        )
        if len(ran.outputs) != items:
            raise RuntimeError(f"{self._name} returned {len(ran.outputs)} outputs for {items} items")
        device.went_well()
        self._costs.learn(device.number, kind, items, ran.seconds)
        self._observer.computed(items, ran.seconds, leads_to)
        return ran

    def _still_wanted(self, batch: list[QueuedItem[In, ItemOutput[Out]]]) -> list[QueuedItem[In, ItemOutput[Out]]]:
        now = self._clock()
        late = [entry for entry in batch if not entry.done and self._is_late(entry, now)]
        if late:
            self.drop(late)
        return [entry for entry in batch if not entry.done]

    def drop(self, late: Sequence[QueuedItem[In, ItemOutput[Out]]]) -> None:
        """Fail the items that would not be done in time."""
        for lane in Lane:
            if count := sum(entry.lane is lane for entry in late):
                self._observer.late(lane, count)
        for entry in late:
            entry.fail(
                DeadlineExceeded(
                    Reason.DEADLINE_EXCEEDED, f"Its deadline passed, or cannot be met, in the queue of {self._name}."
                )
            )

    def _blame(self, entry: QueuedItem[In, ItemOutput[Out]], error: Exception) -> None:
        """Fail one item: the model failed on this very item."""
        _log.error("%s failed on one item", self._name, exc_info=error)
        if not isinstance(error, OutOfMemory):
            self._observer.poisoned()
        if isinstance(error, LensmeshError):
            entry.fail(error)
            return
        if isinstance(error, OutOfMemory):
            # Not RESOURCE_EXHAUSTED, which callers take as a reason to send it again.
            fault = InternalFault(
                Reason.OUT_OF_MEMORY,
                f"{self._name} runs out of memory on this item alone: give its device more, or share it with less.",
            )
        else:
            text = f"{self._name} failed on this item; others are not concerned."
            fault = InternalFault(Reason.MODEL_FAILED, text)
        # As by `raise ... from`: a report of the error shows what lies behind it, as the batch's span does.
        fault.__cause__ = error
        spans.mark_recorded(fault)
        entry.fail(fault)


def _answer(batch: Sequence[QueuedItem[In, ItemOutput[Out]]], ran: Ran[Out | LensmeshError]) -> None:
    """Answer the items of a batch."""
    compute_us, items = int(ran.seconds * 1e6), len(batch)
    for entry, output in zip(batch, ran.outputs, strict=True):
        if isinstance(output, LensmeshError):
            entry.fail(output)
        else:
            queue_us = int((ran.started - entry.arrived) * 1e6)
            entry.answer(ItemOutput(output, queue_us, compute_us, items))


def _put_back(batch: Sequence[QueuedItem[Any, Any]]) -> None:
    for entry in batch:
        entry.trace.put_back()
