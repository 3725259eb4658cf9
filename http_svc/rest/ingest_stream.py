"""A stream of items through the router: resumed where it breaks, answered item by item, bounded on both sides."""

import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc

from http_svc.errors import ErrorView, shown_status
from http_svc.mesh import Mesh
from http_svc.rest.ingest_input import StreamedItem
from http_svc.rest.shapes import DoneLineShape, DoneShape, StreamedShape
from http_svc.rest.values import ImageValues, near, word
from http_svc.settings import HttpSettings
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from lensmesh_client import streams
from lensmesh_client.bulk import BulkMethod
from lensmesh_client.connection import Connection
from lensmesh_client.mesh import Limits
from lensmesh_client.window import ITEM_OVERHEAD_BYTES, Entry

# What one request may have on its way: enough that the models' batches are full.
WINDOW_ITEMS, WINDOW_BYTES = 256, 16 * 1024 * 1024
# How long the router may be away.
PATIENCE_S = 30.0
_ATTEMPTS = 3


class MeshConnection(Connection):
    """The door's own channel, as the streams of the client take it."""

    def __init__(self, mesh: Mesh, settings: HttpSettings) -> None:
        super().__init__(settings.router_target, None, settings.call_seconds, settings.max_message_bytes)
        self._mesh = mesh

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel of the door."""
        return self._mesh.channel

    def explain(self, error: grpc.RpcError) -> LensmeshError:
        """Return the typed error."""
        return self._mesh.explain(error)


class IngestRun:
    """One ingest: its items go out, and their lines come back, each once."""

    def __init__(
        self,
        connection: Connection,
        options: router_pb2.IngestOptions,
        values: ImageValues,
        hold: Callable[[int], Any],
        release: Callable[[int], None],
    ) -> None:
        self._connection, self._options, self._values = connection, options, values
        self._hold, self._release = hold, release
        self._under_way: dict[int, StreamedItem] = {}
        self._began = time.monotonic()
        self._done: DoneShape = {
            "items": 0,
            "created": 0,
            "updated": 0,
            "unchanged": 0,
            "skipped": 0,
            "failed": 0,
            "seconds": 0.0,
        }

    async def lines(self, items: AsyncIterator[StreamedItem]) -> AsyncGenerator[StreamedShape | DoneLineShape]:
        """Yield a line for each item, as it becomes final, and the one that counts them. Raises LensmeshError."""
        results = streams.run(
            self._connection,
            self._held(items),
            self._entry,
            self._method,
            name="ingest_many",
            priority=None,
            window_items=WINDOW_ITEMS,
            window_bytes=WINDOW_BYTES,
            attempts=_ATTEMPTS,
            patience_s=PATIENCE_S,
            timeout_s=None,
            on_resume=None,
            on_wait=None,
        )
        async with aclosing(results):
            async for line in results:
                item = self._under_way.pop(line["index"])
                self._release(item.held)
                self._count(line)
                yield line
        if not self._done["items"]:
            raise InvalidInput(
                Reason.IMAGE_MISSING,
                "the body has no image: send files under the name file, or lines of JSON",
                field="file",
            )
        self._done["seconds"] = round(time.monotonic() - self._began, 3)
        yield {"done": self._done}

    async def _held(self, items: AsyncIterator[StreamedItem]) -> AsyncIterator[StreamedItem]:
        async for item in items:
            item.held = await self._hold(item.message.ByteSize() + ITEM_OVERHEAD_BYTES)
            yield item

    def _entry(self, index: int, item: StreamedItem, limits: Limits) -> tuple[Entry, LensmeshError | None]:
        """Make the entry of an item, and tell why it cannot be sent, if it cannot. Runs in a thread."""
        self._under_way[index] = item
        message = item.message
        error = item.error
        message.ref = str(index)
        content = message.image.content
        if error is None and content:
            message.content_digest = hashlib.sha256(content).digest()
            error = _beyond(limits, len(content), message.ByteSize() + ITEM_OVERHEAD_BYTES)
        if error is not None:
            return Entry(index, item.ref, router_pb2.IngestItem(ref=message.ref), 0), error
        size = message.ByteSize() + ITEM_OVERHEAD_BYTES
        return Entry(index, item.ref, message, size, message.id or message.content_digest.hex()), None

    def _method(self) -> BulkMethod[StreamedShape]:
        return BulkMethod(
            name="ingest",
            open=lambda requests, timeout: self._connection.router.IngestStream(requests, timeout=timeout),
            options=router_pb2.IngestStreamRequest(options=self._options),
            items=lambda messages: router_pb2.IngestStreamRequest(items=messages),  # type: ignore[arg-type]  # its items
            result=self._result,
            failed=self._failed,
        )

    def _result(self, entry: Entry, answer: router_pb2.IngestResult) -> StreamedShape | LensmeshError:
        if answer.WhichOneof("outcome") != "item":
            return from_status(answer.error)
        item, sent = answer.item, self._under_way[entry.index]
        digest = sent.message.content_digest.hex() or None
        line: StreamedShape = {
            "ref": entry.ref,
            "index": entry.index,
            "name": sent.name,
            "image": {
                "id": item.id,
                "collection": self._values.collection,
                "caption": item.caption.text or None,
                "caption_model": item.caption.model or None,
                "content_digest": digest,
                "thumbnail": self._values.thumbnail(digest),
                "original": self._values.original(digest),
            },
            "outcome": word(item.outcome, search_pb2.UpsertOutcome, "UPSERT_OUTCOME_"),  # type: ignore[typeddict-item]  # a word
        }
        if item.HasField("near_duplicate"):
            line["near_duplicate"] = near(item.near_duplicate)
        if item.HasField("caption_error"):
            line["caption_error"] = shown_status(item.caption_error)  # type: ignore[typeddict-item]  # these fields
        return line

    def _failed(self, entry: Entry, error: LensmeshError) -> StreamedShape:
        item = self._under_way[entry.index]
        shown: Any = ErrorView.of(error).json()
        return {"ref": entry.ref, "index": entry.index, "name": item.name, "error": shown}

    def _count(self, line: StreamedShape) -> None:
        self._done["items"] += 1
        kind = "failed" if "error" in line else line.get("outcome") or "unchanged"
        self._done[kind] += 1


def _beyond(limits: Limits, image_bytes: int, message_bytes: int) -> LensmeshError | None:
    if limits.max_image_bytes and image_bytes > limits.max_image_bytes:
        return InvalidInput(
            Reason.IMAGE_TOO_LARGE,
            f"the image has {image_bytes} bytes and the limit is {limits.max_image_bytes}: send a smaller file",
            field="file",
            metadata={"size_bytes": image_bytes, "max_image_bytes": limits.max_image_bytes},
        )
    if limits.max_message_bytes and message_bytes > limits.max_message_bytes:
        return InvalidInput(
            Reason.MESSAGE_TOO_LARGE,
            f"the item has {message_bytes} bytes, the mesh takes {limits.max_message_bytes}: send a smaller image",
            field="file",
        )
    return None
