"""Spans inside a call: children of a span that is recorded, and nothing at all where none is.

This module knows OpenTelemetry's API alone. All that take part in a call (the model services' engines too) make their
spans by it. So an error is recorded once, on the span where it arose, and nothing is kept that no collector should see.
"""

import asyncio
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import Span, SpanContext, Status, StatusCode, Tracer

from lensmesh_chassis.errors import LensmeshError

# Attributes of our own; the rest are OpenTelemetry's semantic conventions.
LANE: Final = "lensmesh.lane"
MODEL: Final = "lensmesh.model"
SPACE_ID: Final = "lensmesh.space_id"
COLLECTION: Final = "lensmesh.collection"
ITEM_INDEX: Final = "lensmesh.item.index"
ITEM_REF: Final = "lensmesh.item.ref"
ITEM_ID: Final = "lensmesh.item.id"
ITEM_BYTES: Final = "lensmesh.item.bytes"
ITEM_KIND: Final = "lensmesh.item.kind"
CACHE_HIT: Final = "lensmesh.cache_hit"
CACHE: Final = "lensmesh.cache"
BATCH_SIZE: Final = "lensmesh.batch.size"
ATTEMPT: Final = "lensmesh.attempt"
REASON: Final = "lensmesh.reason"
QUERY_TEXT: Final = "lensmesh.query.text"
ITEM_OUTCOME: Final = "lensmesh.item.outcome"

CONTENT_VARIABLE: Final = "LENSMESH_TRACES_CONTENT"

# The tracer of the call that runs here; the process' own where none does.
current_tracer: ContextVar[Tracer | None] = ContextVar("lensmesh_tracer", default=None)
_RECORDED: Final = "_lensmesh_recorded"
# Errors behind an error that are looked at.
_CAUSES: Final = 8


def tracer() -> Tracer:
    """Return the tracer that makes the spans of this call."""
    return current_tracer.get() or trace.get_tracer("lensmesh")


def recording() -> bool:
    """Tell whether what happens now is part of a trace that is kept."""
    return trace.get_current_span().is_recording()


def shows_content() -> bool:
    """Tell whether spans may carry query texts, parameters of statements and the words of unexpected errors."""
    return os.environ.get(CONTENT_VARIABLE, "").lower() in ("1", "true", "yes", "on")


@contextmanager
def span(name: str, attributes: Mapping[str, Any] | None = None) -> Iterator[Span]:
    """Open a child of the current span. Where that is not recorded, nothing is made and an empty span is handed out.

    What is raised inside is recorded on it, unless a span further in did that.
    """
    if not recording():
        yield trace.INVALID_SPAN
        return
    made = tracer().start_span(name, attributes=attributes)
    try:
        with trace.use_span(made, record_exception=False, set_status_on_exception=False):
            yield made
    except BaseException as error:
        fail(made, error)
        raise
    finally:
        made.end()


@contextmanager
def operation(name: str, attributes: Mapping[str, Any] | None = None) -> Iterator[Span]:
    """Open a span as `span` does, or the first span of a trace where there is none yet.

    Not to be held across a `yield` of a generator.
    """
    with tracer().start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as made:
        try:
            yield made
        except BaseException as error:
            fail(made, error)
            raise


def fail(span: Span, error: BaseException) -> None:
    """Set the span's status to the error. The error itself is recorded once, on the first span that learns of it."""
    if not span.is_recording():
        return
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        span.set_status(Status(StatusCode.ERROR, "CANCELLED"))
        return
    if isinstance(error, LensmeshError):
        span.set_attribute(REASON, str(error.reason))
        span.set_status(Status(StatusCode.ERROR, f"{error.reason}: {error.message}"))
    else:
        span.set_status(Status(StatusCode.ERROR, type(error).__name__))
    record(span, error)


def record(span: Span, error: BaseException) -> None:
    """Keep the error as an event, unless that was done. The words of an unexpected one are left out: they may quote."""
    if is_recorded(error) or not span.is_recording():
        return
    mark_recorded(error)
    kind = type(error)
    attributes = {"exception.type": f"{kind.__module__}.{kind.__qualname__}"}
    if isinstance(error, LensmeshError):
        attributes |= {"exception.message": error.message, REASON: str(error.reason)}
    else:
        attributes["exception.stacktrace"] = "".join(traceback.format_tb(error.__traceback__))
        if shows_content():
            attributes["exception.message"] = str(error)
    span.add_event("exception", attributes)


def mark_recorded(error: BaseException) -> None:
    """Mark the error as recorded: another span has it, of this process or of the one that the error came from."""
    if hasattr(error, "__dict__"):
        setattr(error, _RECORDED, True)


def is_recorded(error: BaseException) -> bool:
    """Tell whether a span has this error already, or the one that it was raised for."""
    seen: BaseException | None = error
    for _ in range(_CAUSES):
        if seen is None:
            return False
        if getattr(seen, _RECORDED, False):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


# Spans of the items that the next call is made for, each at the place of its item.
_passengers: ContextVar[Sequence[Span]] = ContextVar("lensmesh_passengers", default=())


@contextmanager
def carrying(items: Sequence[Span]) -> Iterator[None]:
    """Link the calls that are made inside with these items, both ways."""
    token = _passengers.set(items)
    try:
        yield
    finally:
        _passengers.reset(token)


def carrying_some(indexes: Sequence[int]) -> AbstractContextManager[None]:
    """Link the calls that are made inside with only some of the current items, those at `indexes`."""
    items = _passengers.get()
    return carrying([items[index] for index in indexes if index < len(items)]) if items else nullcontext()


def link_passengers(call: Span) -> None:
    """Link a call's span with the spans of the items it is made for, and back."""
    here = call.get_span_context()
    for item in _passengers.get():
        link_both(call, item, here)


def link_both(one: Span, other: Span, context_of_one: SpanContext | None = None) -> None:
    """Link two spans with each other."""
    if not other.is_recording():
        return
    one.add_link(other.get_span_context())
    other.add_link(context_of_one or one.get_span_context())


def trace_id() -> str:
    """Return the id of the current trace, 32 hexadecimal digits, where the trace is kept; else ""."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid and context.trace_flags.sampled else ""
