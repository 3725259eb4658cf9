"""CaptionerService: validate, ask the domain, translate."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias

from opentelemetry import trace

from caption_svc.engine import ServedCaptioner
from caption_svc.model import Caption, CaptionerInput, CaptionModel
from caption_svc.options import CaptionCall, read_options
from caption_svc.settings import CaptionSettings
from caption_svc.translate import write_caption, write_error, write_limits, write_model, write_result
from lensmesh.caption.v1 import caption_pb2, caption_pb2_grpc
from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.images.inputs import Fetching, image_content
from lensmesh_inference.items import Completed, EngineItem, ItemOutcome
from lensmesh_serving.app import ModelServiceApp
from lensmesh_serving.call import check_batch, write_outcome, write_outcomes
from lensmesh_serving.reading import read_items
from lensmesh_serving.stream import StreamItem, answer_stream, read_stream

CaptionItem: TypeAlias = EngineItem[CaptionerInput, Caption]


class CaptionerServicer(caption_pb2_grpc.CaptionerServiceServicer):
    """The contract over the models that an app serves."""

    def __init__(self, app: ModelServiceApp[CaptionSettings, CaptionModel, ServedCaptioner]) -> None:
        self._app = app
        self._runtime = app.runtime
        self._settings = app.settings
        self._limits = write_limits(app.settings)
        self._fetcher = app.fetcher

    async def GetInfo(self, request: caption_pb2.GetInfoRequest, context: Any) -> caption_pb2.GetInfoResponse:
        response = caption_pb2.GetInfoResponse(limits=self._limits, server=self._runtime.server_info())
        for served in self._app.models.served:
            write_model(response.models.add(), served)
        return response

    async def CaptionImages(
        self, request: caption_pb2.CaptionImagesRequest, context: Any
    ) -> caption_pb2.CaptionImagesResponse:
        check_batch(request, "images", self._settings)
        call = await self._call(request.options, context)
        async with self._fetcher.for_call() as fetches:
            reads = [
                functools.partial(self._item, image, f"images[{index}]", call)
                for index, image in enumerate(request.images)
            ]
            outcomes = await call.run_batch(await read_items(reads, fetches))
        results = write_outcomes(outcomes, functools.partial(write_result, call), write_error)
        return caption_pb2.CaptionImagesResponse(results=results)

    async def CaptionStream(
        self, request_iterator: AsyncIterator[caption_pb2.CaptionStreamRequest], context: Any
    ) -> AsyncIterator[caption_pb2.CaptionStreamResponse]:
        async def begin(options: caption_pb2.CaptionOptions) -> CaptionCall:
            return await self._call(options, context, streamed=True)

        messages = read_stream(request_iterator, begin, self._settings)
        groups: Any = answer_stream(messages, self._read, self._app)
        async with aclosing(groups):
            async for group in groups:
                yield _write_group(group)

    async def StreamCaption(
        self, request: caption_pb2.StreamCaptionRequest, context: Any
    ) -> AsyncIterator[caption_pb2.StreamCaptionResponse]:
        call = await self._call(request.options, context, most_beams=1)
        trace.get_current_span().set_attributes(call.attributes)
        pieces = call.served.run_by_word(
            await image_content(request.image, "image", self._fetcher),
            call.plan,
            lane=call.lane,
            field="image",
            deadline=call.deadline,
        )
        async with aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, Completed):
                    yield caption_pb2.StreamCaptionResponse(caption=write_caption(piece.value, call.label))
                else:
                    yield caption_pb2.StreamCaptionResponse(delta=piece)

    async def _call(self, options: caption_pb2.CaptionOptions, context: Any, **more: Any) -> CaptionCall:
        return await read_options(options, self._app.models, self._settings, context, **more)

    async def _item(self, image: common_pb2.Image, field: str, call: CaptionCall, fetches: Fetching) -> CaptionItem:
        return call.item(await image_content(image, field, fetches), field)

    async def _read(self, one: StreamItem[CaptionCall], fetches: Fetching) -> CaptionItem:
        return await self._item(one.message.image, f"{one.field}.image", one.call, fetches)


def _write_group(
    group: Sequence[tuple[StreamItem[CaptionCall], ItemOutcome[Caption]]],
) -> caption_pb2.CaptionStreamResponse:
    response = caption_pb2.CaptionStreamResponse()
    for one, outcome in group:
        result = write_outcome(outcome, functools.partial(write_result, one.call), write_error)
        response.results.add(ref=one.message.ref, result=result)
    return response
