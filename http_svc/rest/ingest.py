"""Ingesting many images by one request, answered while it is still being sent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from http_svc.errors import ErrorView
from http_svc.json_bodies import dump
from http_svc.rest.asked import check_type, read_query
from http_svc.rest.context import RestContext
from http_svc.rest.ingest_input import IngestLine, StreamedItem, chunks, files, lines
from http_svc.rest.ingest_options import IngestQuery, ingest_options
from http_svc.rest.ingest_stream import IngestRun, MeshConnection
from http_svc.rest.multipart import boundary_of
from http_svc.rest.operations import FORM, NDJSON, SSE, OperationExample, PartField, RestOperation
from http_svc.rest.pending_lines import PendingLines
from http_svc.rest.shapes import DoneLineShape, FailureShape, StreamedShape
from http_svc.rest.streaming import StreamedAnswer, event, failed_event
from http_svc.serving.body import Body
from lensmesh_chassis.errors import Cancelled, LensmeshError
from lensmesh_chassis.reasons import Reason

# Answers to some ten thousand images, of a client that takes none of them while it sends.
_PENDING_BYTES = 4 * 1024 * 1024


class IngestOperations:
    """POST /v1/ingest."""

    def __init__(self, context: RestContext) -> None:
        self._context = context
        self._connection = MeshConnection(context.mesh, context.settings)

    async def ingest(self, request: Request) -> Response:
        """Make images findable as they come, and answer each as it becomes durable."""
        context = self._context
        asked = read_query(request, IngestQuery)
        kind = check_type(request, FORM, NDJSON)
        boundary = boundary_of(request.headers.get("content-type", "")) if kind == FORM else b""
        body: Body = request.scope["body"]
        # Files and lines are bounded one by one.
        body.limit = 0
        values = await context.image_values(asked.collection)
        run = IngestRun(self._connection, ingest_options(asked), values, body.hold, body.release)
        pending = PendingLines(_PENDING_BYTES)
        by_event = SSE in request.headers.get("accept", "")

        def items(left: Callable[[], None]) -> AsyncIterator[StreamedItem]:
            pieces = chunks(body, left)
            if kind == FORM:
                return files(pieces, boundary, context.settings)
            return lines(pieces, context.settings)

        producer = asyncio.create_task(_produce(run, items, pending, by_event))
        answer = _taken(pending, producer, by_event)
        try:
            # A request that fails as a whole is answered by its status, as long as there is one to choose.
            first = await anext(answer)
        except StopAsyncIteration:
            first = b""
        except BaseException:
            await _ended(producer)
            raise
        return StreamedAnswer(_after(first, answer), SSE if by_event else NDJSON)


async def _produce(
    run: IngestRun,
    items: Callable[[Callable[[], None]], AsyncIterator[StreamedItem]],
    pending: PendingLines,
    by_event: bool,
) -> None:
    """Put the lines of an ingest into `pending`. A client that leaves ends it."""
    task = asyncio.current_task()
    assert task is not None
    error: LensmeshError | None = Cancelled(Reason.CANCELLED, "the ingest was ended")
    try:
        async with contextlib.aclosing(run.lines(items(lambda: _cancel(task)))) as made:
            async for line in made:
                await pending.put(_written(line, by_event))
        error = None
    except LensmeshError as raised:
        error = raised
    finally:
        pending.end(error)


def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()


def _written(line: StreamedShape | DoneLineShape, by_event: bool) -> bytes:
    if by_event:
        return event(dump(line), "done" if "done" in line else "")
    return dump(line) + b"\n"


async def _taken(pending: PendingLines, producer: "asyncio.Task[None]", by_event: bool) -> AsyncIterator[bytes]:
    """Yield lines as they come, and the error that ended them where some had been told."""
    told = False
    try:
        while taken := await pending.take():
            told = True
            yield taken
    except LensmeshError as error:
        if not told:
            raise
        yield failed_event(error) if by_event else dump({"error": ErrorView.of(error).json()}) + b"\n"
    finally:
        await _ended(producer)


async def _after(first: bytes, rest: Any) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(rest):
        if first:
            yield first
        async for piece in rest:
            yield piece


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


_DESCRIPTION = (
    "Each image is answered by a line of JSON as it becomes durable, in any order, and the last line counts them: "
    '`{"done": {...}}`. A line with `error` and without `index` says why an ingest broke: what had no line is sent '
    "again, and nothing is stored twice. The body is read no faster than the mesh takes it, so a client takes lines "
    "while it sends. With `Accept: text/event-stream` lines are server-sent events."
)
_TWO_FILES = (
    ("file", "@image"),
    ("id", "many/1"),
    ("metadata", '{"kind": "drawn"}'),
    ("file", "@image"),
    ("id", "many/2"),
)


def ingest_operations(context: RestContext) -> list[RestOperation]:
    """Return the operations."""
    own = IngestOperations(context)
    return [
        RestOperation(
            "POST",
            "/v1/ingest",
            "ingestImages",
            "images",
            "Make many images findable",
            own.ingest,
            description=_DESCRIPTION,
            parameters=IngestQuery,
            body=IngestLine,
            lines=True,
            parts=(
                PartField("file", "An image; the parts below belong to it.", file=True, required=True, many=True),
                PartField("metadata", "JSON, kept with it.", many=True),
                PartField("id", "Its id; the digest of its bytes unless given.", many=True),
                PartField("caption", "Used in place of a generated one.", many=True),
                PartField("ref", "Comes back with the answer.", many=True),
                PartField("image_uri", "Where the image lies; kept, never fetched.", many=True),
            ),
            answers={200: StreamedShape, 400: FailureShape, 503: FailureShape},
            media_types=(NDJSON, SSE),
            examples=(
                OperationExample(
                    "Two files",
                    query={"captions": "best-effort"},
                    parts=_TWO_FILES,
                ),
            ),
        )
    ]
