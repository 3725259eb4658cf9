"""A router without a mesh behind it: real gRPC on a free port, faults set as attributes."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from lensmesh.caption.v1 import caption_pb2, caption_pb2_grpc
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, LensmeshError, Overloaded, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import abort, to_status

DIMENSION = 4


def unit(content: bytes) -> list[float]:
    """A vector that belongs to the content."""
    raw = np.frombuffer(hashlib.sha256(content).digest()[: DIMENSION * 2], dtype="<u2").astype(np.float32)
    return [float(value) for value in raw / np.linalg.norm(raw)]


@dataclass
class FakeRouter(router_pb2_grpc.RouterServiceServicer):
    """What it saw, and the faults it is told to have."""

    target: str = ""
    max_items: int = 256
    max_message_bytes: int = 32 * 1024 * 1024
    max_image_bytes: int = 0
    # Items answered before each stream in turn is cut off, drained, or ended in good order; further streams hold.
    cut_after: list[int] = field(default_factory=list)
    drain_after: list[int] = field(default_factory=list)
    end_after: list[int] = field(default_factory=list)
    unread: set[bytes] = field(default_factory=set)
    """Contents that are images to nobody."""
    malformed: set[bytes] = field(default_factory=set)
    """Contents that end a stream as a message that cannot be parsed does."""
    fatal: set[bytes] = field(default_factory=set)
    """Contents that end a stream as a router that they crash would: without a status of ours."""
    tags: dict[str, float] = field(default_factory=dict)
    """Of every item that it stores."""
    unwell: str = ""
    """The reason why its search service does not serve; "" while it does."""
    busy_times: dict[bytes, int] = field(default_factory=dict)
    """Number of times that each content is answered "not now"."""
    cut_off: int = 0
    """So many unary calls end as those of a router that is gone do."""
    hold: asyncio.Event | None = None
    """Nothing is answered before it is set."""
    error: LensmeshError | None = None
    """The end of every call."""
    failed_legs: list[search_pb2.FailedLeg] = field(default_factory=list)
    """Queries that searches leave out."""
    matches: dict[bytes, router_pb2.MatchResult] = field(default_factory=dict)
    """Answers of MatchImages, by the image's content."""
    streams: int = 0
    options: list[router_pb2.IngestOptions] = field(default_factory=list)
    stream_options: list[Any] = field(default_factory=list)
    """Of streams that encode or caption."""
    messages: list[int] = field(default_factory=list)
    """Items in each stream message."""
    message_bytes: list[int] = field(default_factory=list)
    stored: list[tuple[str, str]] = field(default_factory=list)
    """(id, caption) of each write."""
    calls: list[Any] = field(default_factory=list)
    """Requests of unary calls."""
    in_flight: int = 0

    async def _enter(self, request: Any, context: Any) -> None:
        self.calls.append(request)
        if self.cut_off:
            self.cut_off -= 1
            await context.abort(grpc.StatusCode.CANCELLED, "CANCELLED")
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            await abort(context, self.error)

    async def GetStatus(self, request: router_pb2.GetStatusRequest, context: Any) -> router_pb2.GetStatusResponse:
        return router_pb2.GetStatusResponse(
            limits=common_pb2.Limits(
                max_items=self.max_items,
                max_message_bytes=self.max_message_bytes,
                max_image_bytes=self.max_image_bytes,
            ),
            server=common_pb2.ServerInfo(version="1.2.3", instance="fake", memory_bytes=1024),
            services=[
                router_pb2.ServiceStatus(
                    name="lensmesh.encoder.v1.EncoderService",
                    address="127.0.0.1:1",
                    health=router_pb2.HEALTH_UNREACHABLE,
                    reason="connection refused",
                    models=[common_pb2.ModelInfo(name="fake", kind=common_pb2.MODEL_KIND_MOCK)],
                    spaces=[common_pb2.VectorSpace(id="vs1-x", model="fake", dimension=DIMENSION)],
                ),
                router_pb2.ServiceStatus(
                    name="lensmesh.search.v1.SearchService",
                    address="127.0.0.1:2",
                    health=router_pb2.HEALTH_NOT_SERVING if self.unwell else router_pb2.HEALTH_SERVING,
                    reason=self.unwell,
                ),
            ],
        )

    async def streamed(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """The items of a stream, until it is cut off."""
        self.streams += 1
        cut = self.cut_after.pop(0) if self.cut_after else None
        answered = 0
        async for request in requests:
            if request.HasField("options"):
                self.stream_options.append(request.options)
            for item in request.items:
                if answered == cut:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
                yield item
                answered += 1

    def _answer(self, item: router_pb2.IngestItem) -> router_pb2.IngestResult:
        content = item.image.content
        if self.busy_times.get(content, 0) > 0:
            self.busy_times[content] -= 1
            busy = Overloaded(Reason.OVERLOADED, "not now", retry_after_s=0.01)
            return router_pb2.IngestResult(ref=item.ref, error=to_status(busy))
        if content in self.unread:
            bad = InvalidInput(Reason.IMAGE_UNDECODABLE, "no image", field="image")
            return router_pb2.IngestResult(ref=item.ref, error=to_status(bad))
        name = item.id or hashlib.sha256(content).hexdigest()
        known = any(name == stored for stored, _ in self.stored)
        self.stored.append((name, item.caption))
        return router_pb2.IngestResult(
            ref=item.ref,
            item=router_pb2.IngestedItem(
                id=name,
                outcome=search_pb2.UPSERT_OUTCOME_UNCHANGED if known else search_pb2.UPSERT_OUTCOME_CREATED,
                caption=common_pb2.Caption(text=item.caption or "generated", confidence=0.5),
                store_us=7,
                tags=[encoder_pb2.LabelScore(label=label, probability=share) for label, share in self.tags.items()],
            ),
        )

    async def Ingest(self, request: router_pb2.IngestRequest, context: Any) -> router_pb2.IngestResponse:
        await self._enter(request, context)
        return router_pb2.IngestResponse(item=self._answer(request.item).item)

    async def IngestStream(
        self, requests: AsyncIterator[router_pb2.IngestStreamRequest], context: Any
    ) -> AsyncIterator[router_pb2.IngestStreamResponse]:
        self.streams += 1
        cut = self.cut_after.pop(0) if self.cut_after else None
        drain = self.drain_after.pop(0) if self.drain_after else None
        end = self.end_after.pop(0) if self.end_after else None
        answered = 0
        async for request in requests:
            if request.HasField("options"):
                self.options.append(request.options)
            if request.items:
                self.messages.append(len(request.items))
                self.message_bytes.append(request.ByteSize())
            self.in_flight += len(request.items)
            if self.hold is not None and request.items:
                await self.hold.wait()
            if self.error is not None:
                await abort(context, self.error)
            for item in request.items:
                if item.image.content in self.malformed:
                    bad = InvalidInput(Reason.MESSAGE_MALFORMED, "nested too deep", field="items[0].metadata")
                    await abort(context, bad)
                if item.image.content in self.fatal:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
                if answered in (cut, drain, end):
                    break
                result = self._answer(item)
                answered += 1
                self.in_flight -= 1
                # A cut also loses the last answer on its way, after its item was stored.
                if answered != cut:
                    yield router_pb2.IngestStreamResponse(results=[result])
            if answered == cut:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            if answered == drain:
                await abort(context, Unavailable(Reason.DRAINING, "the router drains", retry_after_s=0.01))
            if answered == end:
                return

    async def Search(self, request: router_pb2.SearchRequest, context: Any) -> router_pb2.SearchResponse:
        await self._enter(request, context)
        item = search_pb2.Item(id="one", caption=common_pb2.Caption(text="a cat"), content_digest=b"\x01\x02")
        item.metadata.update({"year": 1870, "artist": "Monet", "tags": ["a", 1.5, None, True], "place": {"x": 1}})
        item.create_time.FromJsonString("2024-01-02T03:04:05Z")
        if request.read.view == search_pb2.ITEM_VIEW_FULL:
            numbers = np.array([1, 2, 3, 4], dtype="<f2").tobytes()
            item.vectors["image"].CopyFrom(
                common_pb2.Embedding(data_type=common_pb2.DATA_TYPE_FLOAT16, dimension=4, data=numbers)
            )
        hit = search_pb2.Hit(item=item, score=0.75)
        away = {leg.name for leg in self.failed_legs}
        names = [query.name for query in request.queries if query.name not in away]
        hit.legs.extend(search_pb2.LegScore(name=name, score=0.5, rank=rank) for rank, name in enumerate(names, 1))
        if request.group_by.fields:
            values = item.metadata.fields["artist"], item.metadata.fields["year"]
            hit.group.values.extend(values[: len(request.group_by.fields)])
        return router_pb2.SearchResponse(hits=[hit], encode_us=5, store_us=6, failed_queries=self.failed_legs)

    async def BatchSearch(self, request: router_pb2.BatchSearchRequest, context: Any) -> router_pb2.BatchSearchResponse:
        return router_pb2.BatchSearchResponse()

    async def MatchImages(self, request: router_pb2.MatchImagesRequest, context: Any) -> router_pb2.MatchImagesResponse:
        """Tell of each image what `matches` has for its content; of others, that it is none."""
        await self._enter(request, context)
        error = to_status(InvalidInput(Reason.IMAGE_UNDECODABLE, "no image"))
        none = router_pb2.MatchResult(error=error)
        return router_pb2.MatchImagesResponse(
            results=[self.matches.get(image.content, none) for image in request.images]
        )

    async def GetImage(self, request: router_pb2.GetImageRequest, context: Any) -> router_pb2.GetImageResponse:
        await self._enter(request, context)
        kind = "image/webp" if request.form == router_pb2.IMAGE_FORM_THUMBNAIL else "image/png"
        return router_pb2.GetImageResponse(content=request.content_digest[:4], media_type=kind)


class FakeEncoder(encoder_pb2_grpc.EncoderServiceServicer):
    """The encoders behind the fake router."""

    def __init__(self, router: FakeRouter) -> None:
        self._router = router

    def _result(self, content: bytes, *, hashed: bool = False, featured: bool = False) -> encoder_pb2.EncodeResult:
        if not content or content in self._router.unread:
            return encoder_pb2.EncodeResult(error=to_status(InvalidInput(Reason.TEXT_EMPTY, "empty", field="texts[0]")))
        data = np.array(unit(content), dtype="<f4").tobytes()
        vector = common_pb2.Embedding(
            space_id="vs1-x", data_type=common_pb2.DATA_TYPE_FLOAT32, dimension=DIMENSION, data=data
        )
        result = encoder_pb2.EncodeResult(embedding=vector, truncated=len(content) > 100)
        if hashed:
            result.perceptual_hash.hash, result.perceptual_hash.quality = hashlib.sha256(content).digest(), 90
        if featured:
            result.local_features.kind = common_pb2.LOCAL_FEATURE_KIND_ORB
            result.local_features.points, result.local_features.descriptors = content[:1] * 8, content[:1] * 64
        return result

    async def EncodeTexts(
        self, request: encoder_pb2.EncodeTextsRequest, context: Any
    ) -> encoder_pb2.EncodeTextsResponse:
        await self._router._enter(request, context)
        return encoder_pb2.EncodeTextsResponse(results=[self._result(text.encode()) for text in request.texts])

    async def EncodeImages(
        self, request: encoder_pb2.EncodeImagesRequest, context: Any
    ) -> encoder_pb2.EncodeImagesResponse:
        await self._router._enter(request, context)
        return encoder_pb2.EncodeImagesResponse(
            results=[
                self._result(
                    image.content,
                    hashed=request.options.perceptual_hash,
                    featured=request.options.local_features,
                )
                for image in request.images
            ]
        )

    async def EncodeStream(
        self, requests: AsyncIterator[encoder_pb2.EncodeStreamRequest], context: Any
    ) -> AsyncIterator[encoder_pb2.EncodeStreamResponse]:
        async for item in self._router.streamed(requests, context):
            result = self._result(item.text.encode() or item.image.content)
            yield encoder_pb2.EncodeStreamResponse(
                results=[encoder_pb2.EncodeStreamResult(ref=item.ref, result=result)]
            )

    async def ClassifyImages(
        self, request: encoder_pb2.ClassifyImagesRequest, context: Any
    ) -> encoder_pb2.ClassifyImagesResponse:
        """Score each label by its place: the last fits best."""
        await self._router._enter(request, context)
        count = len(request.labels)
        response = encoder_pb2.ClassifyImagesResponse()
        for one in request.embeddings or request.images:
            result = response.results.add(truncated_label_count=sum(len(label) > 100 for label in request.labels))
            if isinstance(one, common_pb2.Image) and one.content in self._router.unread:
                result.error.CopyFrom(to_status(InvalidInput(Reason.IMAGE_UNDECODABLE, "no image", field="images[0]")))
            elif request.top:
                for place in reversed(range(count)[-request.top :]):
                    result.scores.best.add(index=place, label=request.labels[place], probability=(place + 1) / count)
            else:
                result.scores.probabilities.extend((place + 1) / count for place in range(count))
        return response

    GetInfo = None  # type: ignore[assignment]  # not asked of it


class FakeCaptioner(caption_pb2_grpc.CaptionerServiceServicer):
    """The captioners behind the fake router."""

    def __init__(self, router: FakeRouter) -> None:
        self._router = router

    async def CaptionImages(
        self, request: caption_pb2.CaptionImagesRequest, context: Any
    ) -> caption_pb2.CaptionImagesResponse:
        await self._router._enter(request, context)
        return caption_pb2.CaptionImagesResponse(results=[self._result(image.content) for image in request.images])

    def _result(self, content: bytes) -> caption_pb2.CaptionResult:
        if content in self._router.unread:
            bad = InvalidInput(Reason.IMAGE_UNDECODABLE, "no image", field="image")
            return caption_pb2.CaptionResult(error=to_status(bad))
        return caption_pb2.CaptionResult(caption=common_pb2.Caption(text=f"{len(content)} bytes", confidence=0.5))

    async def CaptionStream(
        self, requests: AsyncIterator[caption_pb2.CaptionStreamRequest], context: Any
    ) -> AsyncIterator[caption_pb2.CaptionStreamResponse]:
        async for item in self._router.streamed(requests, context):
            result = self._result(item.image.content)
            yield caption_pb2.CaptionStreamResponse(
                results=[caption_pb2.CaptionStreamResult(ref=item.ref, result=result)]
            )

    async def StreamCaption(
        self, request: caption_pb2.StreamCaptionRequest, context: Any
    ) -> AsyncIterator[caption_pb2.StreamCaptionResponse]:
        yield caption_pb2.StreamCaptionResponse(delta="a ")
        if self._router.error is not None:
            await abort(context, self._router.error)
        if self._router.hold is not None:
            await self._router.hold.wait()
        yield caption_pb2.StreamCaptionResponse(caption=common_pb2.Caption(text="a cat"))

    GetInfo = None  # type: ignore[assignment]  # not asked of it


@asynccontextmanager
async def serving(router: FakeRouter, options: Sequence[tuple[str, Any]] = (), port: int = 0) -> AsyncIterator[str]:
    """Serves it; gives "127.0.0.1:port"."""
    server = grpc.aio.server(options=options)
    router_pb2_grpc.add_RouterServiceServicer_to_server(router, server)
    encoder_pb2_grpc.add_EncoderServiceServicer_to_server(FakeEncoder(router), server)
    caption_pb2_grpc.add_CaptionerServiceServicer_to_server(FakeCaptioner(router), server)
    router.target = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    await server.start()
    try:
        yield router.target
    finally:
        await server.stop(None)


@contextmanager
def serving_in_thread() -> Iterator[FakeRouter]:
    """Serves one by another thread's event loop."""
    fake, ready = FakeRouter(), threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with serving(fake):
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait(30)
    try:
        yield fake
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
