"""The client's methods that make images findable."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import LensmeshError
from lensmesh_client import bulk_input, requests, streams, translate
from lensmesh_client.bulk import BulkMethod
from lensmesh_client.connection import Connection
from lensmesh_client.guard import building
from lensmesh_client.images import ImageLike
from lensmesh_client.tracing import operation
from lensmesh_client.types import (
    Captions,
    IngestItem,
    IngestResult,
    MetadataPolicy,
    NearAction,
    NearDuplicates,
    Priority,
    Tags,
    Transparency,
)
from lensmesh_client.window import WINDOW_BYTES, WINDOW_ITEMS


class IngestCalls:
    """RouterService.Ingest and IngestStream."""

    _connection: Connection

    @operation("lensmesh ingest")
    async def ingest(
        self,
        item: IngestItem | ImageLike,
        *,
        collection: str = "",
        captions: Captions | str = Captions.BEST_EFFORT,
        prompt: str = "",
        max_tokens: int = 0,
        spaces: Sequence[str] = (),
        metadata: MetadataPolicy | str = MetadataPolicy.MERGE,
        transparency: Transparency | str | None = None,
        deferred_index: bool = False,
        tags: Tags | Sequence[str] | None = None,
        near_duplicates: NearDuplicates | NearAction | str | None = None,
        local_features: bool = False,
        timeout_s: float | None = None,
    ) -> IngestResult:
        """Make one image findable; return when it is durable.

        Args:
            item: The image, or the image with its id, metadata and caption.
            collection: Its name; empty means the mesh's default. One that does not exist is made.
            captions: What a generated caption is worth.
            prompt: Words that a generated caption begins with.
            max_tokens: Its longest length; 0 means the service's default.
            spaces: The collection's spaces to fill; empty means all that are served.
            metadata: What becomes of metadata that is stored already.
            transparency: The policy that a new collection is made with, which then holds for it; None means the
                collection's own.
            deferred_index: Whether a collection that is made leaves its index for `collections.build_index`.
            tags: Labels of which the best are written into the metadata; a list of them means `Tags` with its defaults.
            near_duplicates: What becomes of images that look the same as other items'; an action alone means
                `NearDuplicates` with its defaults. None: they are not looked for.
            local_features: Whether a collection that is made keeps local features of its images. One that is there
                decides itself; with one that keeps none, this is an error.
            timeout_s: Seconds until an answer; None is the client's own.

        Returns:
            What is stored.

        Raises:
            InvalidInput: The image or what comes with it cannot be stored.
            PreconditionFailed: A caption is required and none can be had; the collection is of other spaces, or keeps
                no local features; or it keeps them, and no encoder makes them.
            LensmeshError: Any other failure.
        """
        item = item if isinstance(item, IngestItem) else IngestItem(item)
        limits = await self._connection.limits(timeout_s=timeout_s)
        message = await asyncio.to_thread(bulk_input.message, item, limits)
        with building("options"):
            options = requests.ingest_options(
                collection,
                captions,
                prompt,
                max_tokens,
                spaces,
                None,
                metadata,
                transparency,
                deferred_index,
                tags,
                near_duplicates,
                local_features,
            )
        request = router_pb2.IngestRequest(options=options, item=message)
        answer, trace_id = await self._connection.traced_call(self._connection.router.Ingest, request, timeout_s)
        return dataclasses.replace(translate.ingested(answer.item, 0, item.ref), trace_id=trace_id)

    def ingest_many(
        self,
        items: AsyncIterable[IngestItem | ImageLike] | Iterable[IngestItem | ImageLike],
        *,
        collection: str = "",
        captions: Captions | str = Captions.BEST_EFFORT,
        prompt: str = "",
        max_tokens: int = 0,
        spaces: Sequence[str] = (),
        metadata: MetadataPolicy | str = MetadataPolicy.MERGE,
        transparency: Transparency | str | None = None,
        deferred_index: bool = False,
        tags: Tags | Sequence[str] | None = None,
        near_duplicates: NearDuplicates | NearAction | str | None = None,
        local_features: bool = False,
        priority: Priority | str | None = None,
        window_items: int = WINDOW_ITEMS,
        window_bytes: int = WINDOW_BYTES,
        attempts: int = 3,
        patience_s: float = 60.0,
        timeout_s: float | None = None,
        on_resume: Callable[[LensmeshError, int], None] | None = None,
        on_wait: Callable[[str, int], None] | None = None,
    ) -> AsyncGenerator[IngestResult]:
        """Make images findable, without end; yield each one's result once, as it becomes final, in any order.

        The input is read no further ahead than the window without an answer that has been taken; messages are cut to
        the server's limits. A bad item fails alone. Items of one id are stored in the order given.

        A stream that breaks or drains is opened again, and what has no answer is sent again: nothing is stored twice.
        This goes on until `patience_s` seconds have passed without one answer, counted from the first loss; then the
        last error is raised, and what had no result may be ingested again. An item that is alone on a stream when it
        breaks, some times, is given up. The first connection must succeed.

        Args:
            items: Images, or images with ids, metadata and captions. A plain iterable is stepped in a thread, and
                images given as paths are read there. An error that it raises comes after the answers to what it gave.
            collection: Its name; empty means the mesh's default. One that does not exist is made.
            captions: What a generated caption is worth.
            prompt: Words that a generated caption begins with.
            max_tokens: Its longest length; 0 means the service's default.
            spaces: The collection's spaces to fill; empty means all that are served.
            metadata: What becomes of metadata that is stored already.
            transparency: The policy that a new collection is made with; None means the collection's own.
            deferred_index: Whether a collection that is made leaves its index for `collections.build_index`: a large
                one is filled several times as fast.
            tags: Labels of which the best are written into the metadata; a list of them means `Tags` with its defaults.
            near_duplicates: What becomes of images that look the same as other items'; an action alone means
                `NearDuplicates` with its defaults. None: they are not looked for.
            local_features: Whether a collection that is made keeps local features of its images. One that is there
                decides itself; with one that keeps none, this is an error.
            priority: Who waits; None means bulk.
            window_items: How many items are read ahead of the results taken.
            window_bytes: How many bytes of them.
            attempts: How often an item is sent that is refused for the moment (its error has `retry_after_s`).
            patience_s: Seconds without an answer until a lost connection is an error.
            timeout_s: Seconds for the whole; None sets no limit.
            on_resume: Told of each broken stream: why, and how many items are sent again.
            on_wait: Told every few seconds while nothing is answered: what the mesh waits for, and how many items.

        Returns:
            A generator of results; one that failed has its `error`.

        Raises:
            Unavailable: The mesh cannot be reached, or not again in time.
            DeadlineExceeded: The whole was not done within `timeout_s`.
            LensmeshError: Any other failure of the whole.
        """

        def method() -> BulkMethod[IngestResult]:
            with building("options"):
                options = requests.ingest_options(
                    collection,
                    captions,
                    prompt,
                    max_tokens,
                    spaces,
                    priority,
                    metadata,
                    transparency,
                    deferred_index,
                    tags,
                    near_duplicates,
                    local_features,
                )
            return streams.ingest(self._connection, options)

        return streams.run(
            self._connection,
            items,
            bulk_input.ingest_entry,
            method,
            name="ingest_many",
            priority=priority,
            window_items=window_items,
            window_bytes=window_bytes,
            attempts=attempts,
            patience_s=patience_s,
            timeout_s=timeout_s,
            on_resume=on_resume,
            on_wait=on_wait,
        )
