"""Where an item's time goes, as spans: the item, its way through the queue and the device, and the batch it was in.

A batch has a span of its own, beside the items of the call whose item came first, and is linked to every item in it
and back. Nothing is made for what nobody records.
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
    """The span of one item of a call or stream, `index` being its place there."""
    token = _owner.set(context.get_current())
    try:
        with spans.span("item", {spans.ITEM_INDEX: index, **(attributes or {})}) as span:
            yield span
    finally:
        _owner.reset(token)


class ItemTrace:
    """One item in the batcher: its spans `queue` and `forward`, linked with the batch's.

    None are made where the item is not recorded.
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
        """Begin the span `forward` in this batch; after a batch that failed it is the next one, half as large."""
        if self.recorded:
            self._now.end()
            here = batch.get_span_context()
            self._now = self._tracer.start_span("forward", self._context, links=[Link(here)])
            batch.add_link(self._item.get_span_context())
            self._item.add_link(here)

    def put_back(self) -> None:
        """Say that the batch failed, and that it is not known by whose fault."""
        if self.recorded:
            self._now.set_status(Status(StatusCode.ERROR, "the batch failed: it is tried again"))

    def fail(self, error: BaseException) -> None:
        """Record what keeps the item from an answer on the span that it is in now."""
        if self.recorded:
            spans.fail(self._now, error)

    def end(self) -> None:
        """End the span that it is in now."""
        if self.recorded:
            self._now.end()


@contextmanager
def batch_span(items: Sequence[ItemTrace], attributes: Mapping[str, Any], inside: Context | None) -> Iterator[Span]:
    """The span of one batch, and its current span for as long as it runs.

    Its parent is `inside` (the batch that it is a half of), or what owns the first of its items. It is an empty one
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
