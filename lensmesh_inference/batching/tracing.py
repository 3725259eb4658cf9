"""The spans of an item's time: the item, its way through the queue and the device, and the batch that it was in.

A batch has its own span, beside the items of the call whose item came first. It is linked to every item in it, and each
item to it. No span is made where nobody records it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum
from typing import Any, Final

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, Status, StatusCode

from lensmesh_chassis.telemetry import spans
from lensmesh_chassis.telemetry.exemplars import exemplar

_NO_STEP: Final = nullcontext()
_NO_BATCH: Final = nullcontext(trace.INVALID_SPAN)


class ItemSpan:
    """The span of one item, which hangs below what the item belongs to: its call, or its stream.

    Nothing is recorded on `NOT_RECORDED`, which stands for all items of a call that is not sampled.
    """

    def __init__(self, span: Span, owner: Context) -> None:
        self.recorded = span.is_recording()
        self._span = span
        if self.recorded:
            self.owner = owner
            self.context = trace.set_span_in_context(span, owner)
            self.tracer = spans.tracer()

    @property
    def exemplar(self) -> dict[str, str] | None:
        """Labels that lead to the span; None where it is not recorded."""
        return exemplar(self._span) if self.recorded else None

    @property
    def span_context(self) -> SpanContext:
        """Context that others link to."""
        return self._span.get_span_context()

    def set_attribute(self, name: str, value: str) -> None:
        """Tell one more fact of the item."""
        self._span.set_attribute(name, value)

    def link(self, other: SpanContext) -> None:
        """Link the item to another span."""
        self._span.add_link(other)

    def step(self, name: str, since_ns: int, again: type[Exception]) -> AbstractContextManager[None]:
        """Open a span below the item's that began at `since_ns` of `time.time_ns`, and make it current.

        An error of the type `again` leaves none: the step will be opened again.
        """
        return self._step(name, since_ns, again) if self.recorded else _NO_STEP

    @contextmanager
    def _step(self, name: str, since_ns: int, again: type[Exception]) -> Iterator[None]:
        made = self.tracer.start_span(name, self.context, start_time=since_ns)
        try:
            with trace.use_span(made, record_exception=False, set_status_on_exception=False):
                yield
        except again:
            raise
        except BaseException as error:
            spans.fail(made, error)
            made.end()
            raise
        made.end()

    def fail(self, error: BaseException) -> None:
        """Record what keeps the item from an answer."""
        spans.fail(self._span, error)

    def end(self) -> None:
        """End the span."""
        self._span.end()


class _CallSpan(ItemSpan):
    """The span of a call that has one item. Whoever opened it ends it, and records what is raised inside."""

    def fail(self, error: BaseException) -> None: ...

    def end(self) -> None: ...


NOT_RECORDED: Final = ItemSpan(trace.INVALID_SPAN, Context())


def begin_item(attributes: Mapping[str, Any]) -> ItemSpan:
    """Begin the span of one item below the current span, where that is recorded."""
    if not spans.recording():
        return NOT_RECORDED
    owner = context.get_current()
    return ItemSpan(spans.tracer().start_span("item", owner, attributes=attributes), owner)


def call_as_item() -> ItemSpan:
    """Return the current span as that of an item."""
    return _CallSpan(trace.get_current_span(), context.get_current()) if spans.recording() else NOT_RECORDED


class ItemTrace:
    """The trace of one item in the batcher: its spans `queue` and `forward`, linked with the batch's.

    No span is made where the item is not recorded.
    """

    __slots__ = ("_now", "item")

    def __init__(self, lane: Enum, item: ItemSpan) -> None:
        self.item = item
        if item.recorded:
            self._now = item.tracer.start_span("queue", item.context, attributes={spans.LANE: lane.name.lower()})

    @property
    def recorded(self) -> bool:
        """True where the item is recorded."""
        return self.item.recorded

    def start_forward(self, batch: Span) -> None:
        """Begin the span `forward` in this batch. After a failed batch it is the next batch, half as large."""
        if self.recorded:
            self._now.end()
            here = batch.get_span_context()
            self._now = self.item.tracer.start_span("forward", self.item.context, links=[Link(here)])
            batch.add_link(self.item.span_context)
            self.item.link(here)

    def put_back(self) -> None:
        """Record that the batch failed, and that it is not known which item caused it."""
        if self.recorded:
            self._now.set_status(Status(StatusCode.ERROR, "the batch failed: it is tried again"))

    def fail(self, error: BaseException) -> None:
        """Record on the current span what keeps the item from an answer."""
        if self.recorded:
            spans.fail(self._now, error)

    def end(self) -> None:
        """End the current span."""
        if self.recorded:
            self._now.end()


def batch_span(
    items: Iterable[ItemTrace], attributes: Mapping[str, Any], inside: Context | None
) -> AbstractContextManager[Span]:
    """Open the span of one batch, and make it current as long as the batch runs.

    Its parent is `inside` (the batch that it is a half of), or what owns the first of its items. It is an empty span
    where none of its items is recorded.
    """
    recorded = [item for item in items if item.item.recorded]
    return _batch_span(recorded, attributes, inside) if recorded else _NO_BATCH


@contextmanager
def _batch_span(recorded: Sequence[ItemTrace], attributes: Mapping[str, Any], inside: Context | None) -> Iterator[Span]:
    first = recorded[0]
    span = first.item.tracer.start_span("batch", inside or first.item.owner, attributes=attributes)
    for item in recorded:
        item.start_forward(span)
    try:
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            yield span
    finally:
        span.end()
