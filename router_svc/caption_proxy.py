"""CaptionerService of the mesh: every captioner behind this router under the contract of one."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from lensmesh.caption.v1 import caption_pb2, caption_pb2_grpc
from router_svc.call_scope import CallScope
from router_svc.model_proxy import ModelProxy, ModelStream
from router_svc.upstreams.images import PackedImage
from router_svc.upstreams.kinds import Kind
from router_svc.upstreams.models import Captioners


class CaptionStreamOfOneCall(ModelStream):
    """A CaptionStream: its images, gathered into batch calls."""

    step = "caption"
    answer_type = caption_pb2.CaptionStreamResult
    result_type = caption_pb2.CaptionResult

    def field_of(self, item: caption_pb2.CaptionStreamItem) -> str:
        return "image"


class CaptionerProxy(ModelProxy[Captioners], caption_pb2_grpc.CaptionerServiceServicer):
    """Passes CaptionerService on."""

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
        self._check(request.images, "images")
        images = list(map(PackedImage.of, request.images))
        results = await self._models.images.run(images, request.options, CallScope.of(context, "images[]"))
        return caption_pb2.CaptionImagesResponse(results=results)

    async def StreamCaption(
        self, request: caption_pb2.StreamCaptionRequest, context: Any
    ) -> AsyncIterator[caption_pb2.StreamCaptionResponse]:
        pieces = self._models.stream_caption(request, CallScope.of(context, "image"))
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece

    async def CaptionStream(
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[caption_pb2.CaptionStreamResponse]:
        async with aclosing(self._answers(request_iterator, context)) as groups:
            async for group in groups:
                yield caption_pb2.CaptionStreamResponse(results=group)

    def _open(self, options: caption_pb2.CaptionOptions, scope: CallScope) -> ModelStream:
        return CaptionStreamOfOneCall(self._settings, {"image": self._models.images}, options, scope)
