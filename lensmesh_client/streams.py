"""The bulk streams of a client: what each sends, what its answers mean, and how all of them are run."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from contextlib import aclosing
from typing import TypeVar

from opentelemetry import trace

from lensmesh.caption.v1 import caption_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.rpc.status import from_status
from lensmesh_chassis.telemetry import spans
from lensmesh_client import bulk_input, translate
from lensmesh_client.bulk import BulkMethod, BulkStream, Persistence
from lensmesh_client.connection import Connection
from lensmesh_client.guard import check_seconds
from lensmesh_client.mesh import Limits
from lensmesh_client.tracing import lane
from lensmesh_client.types import CaptionResult, EmbedResult, IngestResult, Priority
from lensmesh_client.window import Entry, Window

T = TypeVar("T")
R = TypeVar("R")


async def run(
    connection: Connection,
    items: AsyncIterable[T] | Iterable[T],
    read: Callable[[int, T, Limits], tuple[Entry, LensmeshError | None]],
    method: Callable[[], BulkMethod[R]],
    *,
    name: str,
    priority: Priority | str | None,
    window_items: int,
    window_bytes: int,
    attempts: int,
    patience_s: float,
    timeout_s: float | None,
    on_resume: Callable[[LensmeshError, int], None] | None,
    on_wait: Callable[[str, int], None] | None,
) -> AsyncGenerator[R]:
    """Send all items by `method`, as `read` makes messages of them, and yield each one's result once.

    The whole is one span, `lensmesh NAME`.
    """
    span = spans.tracer().start_span(f"lensmesh {name}", attributes={spans.LANE: lane(priority, Priority.BULK)})
    try:
        timeout_s = check_seconds(timeout_s, "timeout_s")
        patience = check_seconds(patience_s, "patience_s")
        deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            limits = await connection.limits(refresh=True, timeout_s=timeout_s)
            context = contextvars.copy_context()
        window = Window(window_items, window_bytes)
        bulk = BulkStream(
            connection,
            method(),
            window,
            Persistence(math.inf if patience is None else patience, attempts, deadline, on_resume, on_wait),
            context,
        )
        results = bulk.run(lambda: bulk_input.feed(items, read, limits, window, bulk.settle))
        async with aclosing(results):
            async for result in results:
                yield result
    except BaseException as error:
        spans.fail(span, error)
        raise
    finally:
        span.end()


def ingest(connection: Connection, options: router_pb2.IngestOptions) -> BulkMethod[IngestResult]:
    """Describe RouterService.IngestStream."""

    def result(entry: Entry, answer: router_pb2.IngestResult) -> IngestResult | LensmeshError:
        if answer.WhichOneof("outcome") == "item":
            return translate.ingested(answer.item, entry.index, entry.ref)
        return from_status(answer.error)

    return BulkMethod(
        name="ingest",
        open=lambda requests, timeout: connection.router.IngestStream(requests, timeout=timeout),
        options=router_pb2.IngestStreamRequest(options=options),
        items=lambda messages: router_pb2.IngestStreamRequest(items=messages),  # type: ignore[arg-type]  # its items
        result=result,
        failed=lambda entry, error: IngestResult(index=entry.index, ref=entry.ref, error=error),
    )


def embed(connection: Connection, options: encoder_pb2.EncodeOptions) -> BulkMethod[EmbedResult]:
    """Describe EncoderService.EncodeStream."""
    from lensmesh_client import vectors

    def result(entry: Entry, answer: encoder_pb2.EncodeStreamResult) -> EmbedResult | LensmeshError:
        if answer.result.WhichOneof("outcome") == "embedding":
            return vectors.embedded(answer.result, entry.index)
        return from_status(answer.result.error)

    return BulkMethod(
        name="embedding",
        open=lambda requests, timeout: connection.encoder.EncodeStream(requests, timeout=timeout),
        options=encoder_pb2.EncodeStreamRequest(options=options),
        items=lambda messages: encoder_pb2.EncodeStreamRequest(items=messages),  # type: ignore[arg-type]  # its items
        result=result,
        failed=lambda entry, error: EmbedResult(index=entry.index, error=error),
    )


def caption(connection: Connection, options: caption_pb2.CaptionOptions) -> BulkMethod[CaptionResult]:
    """Describe CaptionerService.CaptionStream."""

    def result(entry: Entry, answer: caption_pb2.CaptionStreamResult) -> CaptionResult | LensmeshError:
        if answer.result.WhichOneof("outcome") == "caption":
            return translate.captioned(answer.result, entry.index)
        return from_status(answer.result.error)

    return BulkMethod(
        name="captioning",
        open=lambda requests, timeout: connection.captioner.CaptionStream(requests, timeout=timeout),
        options=caption_pb2.CaptionStreamRequest(options=options),
        items=lambda messages: caption_pb2.CaptionStreamRequest(items=messages),  # type: ignore[arg-type]  # its items
        result=result,
        failed=lambda entry, error: CaptionResult(error=error, index=entry.index),
    )
