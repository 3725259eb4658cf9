"""CaptionerService of the mesh: every captioner behind this router under the contract of one."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from opentelemetry import trace

from lensmesh.caption.v1 import caption_pb2, caption_pb2_grpc
from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.limits import check_items, check_message
from lensmesh_chassis.process.server import Runtime
from lensmesh_chassis.rpc.status import to_status
from lensmesh_chassis.telemetry import spans
from router_svc.deadline import deadline_of
from router_svc.limits import JoinedLimits
from router_svc.micro_batcher import MicroBatcher
from router_svc.model_directory import ModelDirectory
from router_svc.settings import RouterSettings
from router_svc.stream import StreamLimits, answers, as_they_are, first_message
from router_svc.upstreams.batch_call import failure_of
from router_svc.upstreams.kinds import Kind
from router_svc.upstreams.models import Captioners, image_bytes
from router_svc.upstreams.pool import Patience


class CaptionerProxy(caption_pb2_grpc.CaptionerServiceServicer):
    """Passes CaptionerService on."""

    def __init__(
        self,
        settings: RouterSettings,
        runtime: Runtime[RouterSettings],
        captioners: Captioners,
        directory: ModelDirectory,
        limits: JoinedLimits,
        streams: StreamLimits,
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._captioners = captioners
        self._directory = directory
        self._limits = limits
        self._streams = streams

    async def GetInfo(self, request: caption_pb2.GetInfoRequest, context: Any) -> caption_pb2.GetInfoResponse:
        # Unavailable while the first captioner has not told what it runs.
        await self._directory.captioners("")
        return caption_pb2.GetInfoResponse(
            models=self._directory.caption_models(),
            limits=self._limits.of(Kind.CAPTIONER),
            server=self._runtime.server_info(),
        )

    async def CaptionImages(
        self, request: caption_pb2.CaptionImagesRequest, context: Any
    ) -> caption_pb2.CaptionImagesResponse:
        check_message(request, self._settings.max_message_bytes)
        check_items(len(request.images), self._settings.max_items, "images")
        results = await self._captioners.images(
            request.images, request.options, path_of=lambda index: f"images[{index}]", deadline=deadline_of(context)
        )
        return caption_pb2.CaptionImagesResponse(results=results)

    async def StreamCaption(
        self, request: caption_pb2.StreamCaptionRequest, context: Any
    ) -> AsyncIterator[caption_pb2.StreamCaptionResponse]:
        check_message(request, self._settings.max_message_bytes)
        pieces = self._captioners.one(request, deadline=deadline_of(context))
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece

    async def CaptionStream(
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[caption_pb2.CaptionStreamResponse]:
        rest = aiter(request_iterator)
        first = await first_message(rest, self._streams.draining)
        if first is None:
            return
        async with _StreamWork(self._settings, self._captioners, first.options, deadline_of(context)) as work:
            await work.choose_model()
            async for group in answers(
                first,
                rest,
                self._streams,
                answer=work.answer,
                size_of=lambda item: image_bytes(item.image),
                ref_of=lambda item: item.ref,
                prepare=as_they_are,
            ):
                yield caption_pb2.CaptionStreamResponse(results=group)


class _StreamWork:
    """One CaptionStream: its images, gathered into batch calls."""

    def __init__(
        self,
        settings: RouterSettings,
        captioners: Captioners,
        options: caption_pb2.CaptionOptions,
        deadline: float | None,
    ) -> None:
        self._captioners = captioners
        self._deadline = deadline
        self._options = caption_pb2.CaptionOptions()
        self._options.CopyFrom(options)
        if self._options.priority == common_pb2.PRIORITY_UNSPECIFIED:
            # A stream's items travel in unary calls, where the default would be the other lane.
            self._options.priority = common_pb2.PRIORITY_BULK
        self._patience = Patience(away_s=settings.wait_seconds, busy_s=settings.wait_seconds)
        self._images: MicroBatcher[common_pb2.Image, caption_pb2.CaptionResult] = MicroBatcher(
            self._describe,
            size_of=image_bytes,
            max_items=settings.batch_items,
            max_bytes=settings.batch_bytes,
            max_calls=settings.batch_calls,
            step="caption",
            failure_of=failure_of,
        )

    async def __aenter__(self) -> "_StreamWork":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._images.close()

    async def choose_model(self) -> None:
        """Raises MODEL_NOT_SERVED for the whole stream, before an item is read."""
        await self._captioners.pool.patiently(
            lambda: self._captioners.directory.captioners(self._options.model), self._patience, deadline=self._deadline
        )

    async def answer(self, item: caption_pb2.CaptionStreamItem) -> caption_pb2.CaptionStreamResult:
        try:
            result = await self._images.submit(item.image)
        except Exception as error:  # noqa: BLE001 - a fault of ours fails one item, not the stream
            spans.fail(trace.get_current_span(), error)
            return caption_pb2.CaptionStreamResult(
                ref=item.ref, result=caption_pb2.CaptionResult(error=to_status(error))
            )
        if (refused := failure_of(result)) is not None:
            spans.fail(trace.get_current_span(), refused)
        return caption_pb2.CaptionStreamResult(ref=item.ref, result=result)

    async def _describe(self, images: Sequence[common_pb2.Image]) -> Sequence[caption_pb2.CaptionResult]:
        return await self._captioners.images(
            images, self._options, path_of=lambda _: "image", patience=self._patience, deadline=self._deadline
        )
