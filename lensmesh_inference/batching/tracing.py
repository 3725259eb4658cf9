"""The spans of an item's time: the item, its way through the queue and the device, and the batch that it was in.

A batch has its own span, beside the items of the call whose item came first. It is linked to every item in it, and each
item to it. No span is made where nobody records it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, Status, StatusCode

from lensmesh_chassis.telemetry import spans

# What the item that is worked on belongs to: its call, or its stream.
_owner: ContextVar[Context | None] = ContextVar("lensmesh_owner_of_item", default=None)


@contextmanager
def item_span(index: int, attributes: Mapping[str, Any] | None = None) -> Iterator[Span]:
    """Open the span of one item of a call or stream. `index` is its position there."""
    token = _owner.set(context.get_current())
    try:
        with spans.span("item", {spans.ITEM_INDEX: index, **(attributes or {})}) as span:
            yield span
    finally:
        _owner.reset(token)


class ItemTrace:
    """The trace of one item in the batcher: its spans `queue` and `forward`, linked with the batch's.

    No span is made where the item is not recorded.
    """

    def __init__(self, lane: str) -> None:
        self._item = trace.get_current_span()
        self.recorded = self._item.is_recording()
        if self.recorded:
            self._context = context.get_current()
            # Of the batch, should this item be the first in it.
            self.owner = _owner.get() or self._context
            self._tracer = spans.tracer()
            self._now = self._tracer.start_span("queue", self._context, attributes={spans.LANE: lane})

    def start_forward(self, batch: Span) -> None:
        """Begin the span `forward` in this batch. After a failed batch it is the next batch, half as large."""
        if self.recorded:
            self._now.end()
            here = batch.get_span_context()
            self._now = self._tracer.start_span("forward", self._context, links=[Link(here)])
            batch.add_link(self._item.get_span_context())
            self._item.add_link(here)

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


@contextmanager
def batch_span(items: Sequence[ItemTrace], attributes: Mapping[str, Any], inside: Context | None) -> Iterator[Span]:
    """Open the span of one batch, and make it current as long as the batch runs.

    Its parent is `inside` (the batch that it is a half of), or what owns the first of its items. It is an empty span
    where none of its items is recorded.
    """
    recorded = [item for item in items if item.recorded]
    if not recorded:
        yield trace.INVALID_SPAN
        return
    first = recorded[0]
    span = first._tracer.start_span("batch", inside or first.owner, attributes=attributes)
    for item in recorded:
        item.start_forward(span)
    try:
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            yield span
    finally:
        span.end()
