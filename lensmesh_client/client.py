"""The typed asynchronous client of a lensmesh router."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import math
import os
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from opentelemetry import trace

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.channels import ChannelSecurity
from lensmesh_chassis.errors import InvalidInput, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from lensmesh_chassis.telemetry import spans
from lensmesh_client import batches, bulk_input, mesh, requests, translate, translate_mesh
from lensmesh_client.bulk import BulkIngest, Persistence
from lensmesh_client.connection import Connection
from lensmesh_client.filters import FilterLike, parse_filter
from lensmesh_client.guard import building, check_seconds, check_text
from lensmesh_client.images import ImageLike, image_bytes, listed
from lensmesh_client.tracing import lane, operation
from lensmesh_client.types import (
    CaptionResult,
    Captions,
    Embeddings,
    IngestItem,
    IngestResult,
    MetadataPolicy,
    Priority,
    SearchResult,
    Transparency,
)
from lensmesh_client.window import Window

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

DEFAULT_TARGET = "127.0.0.1:50050"
MIB = 1024 * 1024


class Client:
    """Asks one router. Every method raises LensmeshError's subclasses, and nothing else of gRPC's.

    `target` is "host:port" or "unix:/path"; a DNS name of several routers is spread over all of them. `security` holds
    the certificates for TLS (None: plain text). `timeout_s` is each call's deadline, in seconds, and can be given to
    every method; None sets none. `on_wait(why)` is told every few seconds while a call has no answer: what the mesh
    says it waits for. The channel opens with the first call, in the event loop that makes it, so a client may be made
    anywhere, a notebook's cell included.

        async with Client() as client:
            await client.ingest("cat.jpg")
            found = await client.search(text="a cat")
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        security: ChannelSecurity | None = None,
        timeout_s: float | None = 30.0,
        max_message_bytes: int = 32 * MIB,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        self._connection = Connection(target, security, timeout_s, max_message_bytes, on_wait)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def target(self) -> str:
        """Where the router is."""
        return self._connection.target

    async def close(self) -> None:
        """Ends running calls; the next call opens a new channel."""
        await self._connection.close()

    async def status(self, *, timeout_s: float | None = None) -> mesh.MeshStatus:
        """Every service behind the router: address, health, models, memory, limits."""
        answer = await self._connection.call(
            self._connection.router.GetStatus, router_pb2.GetStatusRequest(), timeout_s
        )
        return translate_mesh.status(answer)

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
        timeout_s: float | None = None,
    ) -> IngestResult:
        """Makes one image findable; returns when it is durable.

        `collection` "" is the service's default; one that does not exist is made. `prompt` and `max_tokens` steer the
        generated caption, `spaces` names the vector spaces to fill (empty: all that are served), `metadata` says what
        becomes of metadata that is stored already. `transparency` is the policy that a new collection is made with,
        which then holds for it; None is the collection's own. Raises what failed.
        """
        item = item if isinstance(item, IngestItem) else IngestItem(item)
        limits = await self._connection.limits(timeout_s=timeout_s)
        message = await asyncio.to_thread(bulk_input.message, item, limits)
        with building("options"):
            options = requests.ingest_options(
                collection, captions, prompt, max_tokens, spaces, None, metadata, transparency
            )
        request = router_pb2.IngestRequest(options=options, item=message)
        answer, trace_id = await self._connection.traced_call(self._connection.router.Ingest, request, timeout_s)
        return dataclasses.replace(translate.ingested(answer.item, 0, item.ref), trace_id=trace_id)

    async def ingest_many(
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
        priority: Priority | str | None = None,
        window_items: int = 512,
        window_bytes: int = 64 * MIB,
        attempts: int = 3,
        patience_s: float = 60.0,
        timeout_s: float | None = None,
        on_resume: Callable[[LensmeshError, int], None] | None = None,
        on_wait: Callable[[str, int], None] | None = None,
    ) -> AsyncGenerator[IngestResult]:
        """Makes images findable, without end; yields each one's result once, as it becomes final, in any order.

        The input is read no further ahead than `window_items` items or `window_bytes` bytes without an answer that has
        been taken; messages are cut to the server's limits. A bad item fails alone, as an `IngestResult` with `error`.

        A stream that breaks or drains is opened again, and what has no answer is sent again: nothing is stored twice.
        This goes on until `patience_s` seconds have passed without one answer, counted from the first loss; then the
        last error is raised, and what had no result may be ingested again. An item that is refused for the moment (its
        error has `retry_after_s`) is sent up to `attempts` times; one that is alone on a stream when it breaks, twice,
        is given up. The first connection must succeed. Items of one id are stored in the order given.

        `timeout_s` limits the whole, None sets no limit. `on_resume(error, count)` is told of each broken stream and of
        how many items are sent again. `on_wait(why, count)` is told every few seconds while nothing is answered: what
        the mesh says it waits for, and how many items wait. A plain iterable is stepped in a thread, and images given
        as paths are read there. An error raised by the input comes after the answers to what it gave before.
        """
        span = spans.tracer().start_span("lensmesh ingest_many", attributes={spans.LANE: lane(priority, Priority.BULK)})
        try:
            timeout_s = check_seconds(timeout_s, "timeout_s")
            patience = check_seconds(patience_s, "patience_s")
            deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                limits = await self._connection.limits(refresh=True, timeout_s=timeout_s)
                context = contextvars.copy_context()
            window = Window(window_items, window_bytes)
            with building("options"):
                options = requests.ingest_options(
                    collection, captions, prompt, max_tokens, spaces, priority, metadata, transparency
                )
            bulk = BulkIngest(
                self._connection,
                options,
                window,
                Persistence(math.inf if patience is None else patience, attempts, deadline, on_resume, on_wait),
                context,
            )
            results = bulk.run(lambda: bulk_input.feed(items, limits, window, bulk.settle))
            async with aclosing(results):
                async for result in results:
                    yield result
        except BaseException as error:
            spans.fail(span, error)
            raise
        finally:
            span.end()

    @operation("lensmesh search")
    async def search(
        self,
        text: str | None = None,
        *,
        image: ImageLike | None = None,
        item_id: str | None = None,
        embedding: ArrayLike | None = None,
        space_id: str = "",
        collection: str = "",
        space: str = "",
        filter: FilterLike | None = None,
        limit: int = 10,
        offset: int = 0,
        min_score: float | None = None,
        exact: bool = False,
        with_vectors: bool = False,
        timeout_s: float | None = None,
    ) -> SearchResult:
        """Finds the nearest items; give exactly one of `text`, `image`, `item_id` and `embedding`.

        `embedding` is a vector of shape (d,) of the space `space_id` (`Embeddings.space_id`). `space` is the
        collection's name for the space to look in, "" its first. `filter` is a contract's Filter, or "key=value",
        "key>=3" and so on, or several of these, all of which must hold. Scores are cosine similarities, -1 to 1;
        `min_score` leaves out what is below. `exact` compares with every item instead of asking the index. `limit` is
        at most Limits.max_hits.
        """
        most = 0
        if isinstance(image, str | os.PathLike):
            most = (await self._connection.limits(timeout_s=timeout_s)).max_image_bytes
        query = await asyncio.to_thread(requests.query, text, image, item_id, embedding, space_id, space, most)
        view = search_pb2.ITEM_VIEW_FULL if with_vectors else search_pb2.ITEM_VIEW_BASIC
        with building("search"):
            request = router_pb2.SearchRequest(
                collection=collection,
                queries=[query],
                filter=None if filter is None else parse_filter(filter),
                limit=limit,
                offset=offset,
                min_score=min_score,
                tuning=search_pb2.SearchTuning(exact=True) if exact else None,
                read=search_pb2.ReadOptions(view=view),
            )
        answer, trace_id = await self._connection.traced_call(self._connection.router.Search, request, timeout_s)
        hits = tuple(translate.hit(hit) for hit in answer.hits)
        return SearchResult(hits, answer.encode_us, answer.store_us, trace_id)

    @operation("lensmesh embed")
    async def embed(
        self,
        *,
        texts: Iterable[str] | str | None = None,
        images: Iterable[ImageLike] | ImageLike | None = None,
        space_id: str = "",
        transparency: Transparency | str | None = None,
        priority: Priority | str | None = None,
        timeout_s: float | None = None,
    ) -> Embeddings:
        """Vectors of texts or of images: float32, shape (n, d), in the order given; `errors` tells of bad items.

        `space_id` "" is the mesh's default space, or with `transparency` that of its model with this policy. Cut to
        the server's limits, four calls at a time; `timeout_s` holds for each call.
        """
        from lensmesh_client import vectors

        limits = await self._connection.limits(timeout_s=timeout_s)
        with building("options"):
            options = encoder_pb2.EncodeOptions(
                space_id=space_id,
                data_type=common_pb2.DATA_TYPE_FLOAT32,
                priority=requests.priority(priority),
                transparency=requests.transparency(transparency),
            )
        connection = self._connection

        async def encode_texts(chunk: list[str]) -> Sequence[encoder_pb2.EncodeResult]:
            request = encoder_pb2.EncodeTextsRequest(texts=chunk, options=options)
            return (await connection.call(connection.encoder.EncodeTexts, request, timeout_s)).results

        async def encode_images(chunk: list[bytes]) -> Sequence[encoder_pb2.EncodeResult]:
            request = encoder_pb2.EncodeImagesRequest(images=requests.images(chunk), options=options)
            return (await connection.call(connection.encoder.EncodeImages, request, timeout_s)).results

        if texts is not None and images is None:
            with building("texts"):
                words = [texts] if isinstance(texts, str) else list(texts)
            return vectors.embeddings(await batches.answers(words, check_text, encode_texts, limits, "texts"))
        if images is not None and texts is None:
            given, load = listed(images), partial(image_bytes, max_bytes=limits.max_image_bytes)
            return vectors.embeddings(await batches.answers(given, load, encode_images, limits, "images"))
        raise InvalidInput(Reason.QUERY_INVALID, "embed takes exactly one of texts and images", field="images")

    @operation("lensmesh caption")
    async def caption(
        self,
        images: Iterable[ImageLike] | ImageLike,
        *,
        prompt: str = "",
        max_tokens: int = 0,
        beams: int = 0,
        model: str = "",
        transparency: Transparency | str | None = None,
        priority: Priority | str | None = None,
        timeout_s: float | None = None,
    ) -> list[CaptionResult]:
        """Images in words, in the order given, one result for each; a bad image has its `error`.

        `max_tokens` 0 and `beams` 0 are the service's defaults (30, and greedy); `model` names the only one that will
        do. `transparency` "white" describes images as a page shows them; None and "drop" as their colours are stored.
        """
        limits = await self._connection.limits(timeout_s=timeout_s)
        with building("options"):
            options = caption_pb2.CaptionOptions(
                prompt=prompt,
                max_tokens=max_tokens,
                beam_count=beams,
                model=model,
                priority=requests.priority(priority),
                transparency=requests.transparency(transparency),
            )
        connection = self._connection

        async def describe(chunk: list[bytes]) -> Sequence[caption_pb2.CaptionResult]:
            request = caption_pb2.CaptionImagesRequest(images=requests.images(chunk), options=options)
            return (await connection.call(connection.captioner.CaptionImages, request, timeout_s)).results

        given, load = listed(images), partial(image_bytes, max_bytes=limits.max_image_bytes)
        answers = await batches.answers(given, load, describe, limits, "images")
        return [_captioned(answer) for answer in answers]


def _captioned(answer: caption_pb2.CaptionResult | LensmeshError) -> CaptionResult:
    if isinstance(answer, LensmeshError):
        return CaptionResult(error=answer)
    if answer.WhichOneof("outcome") == "caption":
        return CaptionResult(caption=translate.caption(answer.caption), timings=translate.timings(answer.timings))
    return CaptionResult(error=from_status(answer.error), timings=translate.timings(answer.timings))
