"""EncoderService: validate, ask the domain, translate."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias

from encoder_svc.classify import read_classification, read_embedding, write_classifications
from encoder_svc.engine import ServedEncoder, TextInput
from encoder_svc.model import Embedded, EncoderInput, EncoderModel
from encoder_svc.options import EncodeCall, read_options
from encoder_svc.settings import EncoderSettings
from encoder_svc.translate import read_image, read_stream_item, write_error, write_model, write_result
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh_chassis.encode_answers import answers_in, check_answer_size
from lensmesh_chassis.images.inputs import Fetching
from lensmesh_chassis.labels import MAX_LABELS
from lensmesh_inference.images import local_features
from lensmesh_inference.items import EngineItem, ItemOutcome
from lensmesh_serving.app import ModelServiceApp
from lensmesh_serving.call import check_batch, or_error, write_outcome, write_outcomes
from lensmesh_serving.model_info import write_limits
from lensmesh_serving.reading import read_items
from lensmesh_serving.stream import StreamItem, answer_stream, read_stream

EncodeItem: TypeAlias = EngineItem[EncoderInput, Embedded]


class EncoderServicer(encoder_pb2_grpc.EncoderServiceServicer):
    """The contract over the models that an app serves."""

    def __init__(self, app: ModelServiceApp[EncoderSettings, EncoderModel, ServedEncoder]) -> None:
        self._app = app
        self._runtime = app.runtime
        self._settings = app.settings
        self._limits = write_limits(app.settings)
        self._limits.max_labels = MAX_LABELS
        self._fetcher = app.fetcher

    async def GetInfo(self, request: encoder_pb2.GetInfoRequest, context: Any) -> encoder_pb2.GetInfoResponse:
        response = encoder_pb2.GetInfoResponse(limits=self._limits, server=self._runtime.server_info())
        if local_features.supported():
            response.local_feature_kind = common_pb2.LOCAL_FEATURE_KIND_ORB
        for served in self._app.models.served:
            write_model(response.models.add(), served)
        return response

    async def EncodeImages(
        self, request: encoder_pb2.EncodeImagesRequest, context: Any
    ) -> encoder_pb2.EncodeImagesResponse:
        check_batch(request, "images", self._settings)
        call = self._call(request.options, context)
        if call.answer_bytes:
            check_answer_size(len(request.images), self._settings.max_message_bytes, call.answer_bytes)
        async with self._fetcher.for_call() as fetches:
            items = await self._read_images(request.images, call, fetches)
            return encoder_pb2.EncodeImagesResponse(results=await _run_batch(call, items))

    async def EncodeTexts(
        self, request: encoder_pb2.EncodeTextsRequest, context: Any
    ) -> encoder_pb2.EncodeTextsResponse:
        check_batch(request, "texts", self._settings)
        call = self._call(request.options, context)
        texts = (TextInput(text, f"texts[{index}]") for index, text in enumerate(request.texts))
        items = [or_error(call.item, text) for text in texts]
        return encoder_pb2.EncodeTextsResponse(results=await _run_batch(call, items))

    async def EncodeStream(
        self, request_iterator: AsyncIterator[encoder_pb2.EncodeStreamRequest], context: Any
    ) -> AsyncIterator[encoder_pb2.EncodeStreamResponse]:
        async def begin(options: encoder_pb2.EncodeOptions) -> EncodeCall:
            return self._call(options, context, streamed=True)

        messages = read_stream(request_iterator, begin, self._settings)
        groups: Any = answer_stream(messages, self._read, self._app)
        async with aclosing(groups):
            async for group in groups:
                each = group[0][0].call.answer_bytes
                most = answers_in(self._settings.max_message_bytes, each) if each else len(group)
                for first in range(0, len(group), most):
                    yield _write_group(group[first : first + most])

    async def ClassifyImages(
        self, request: encoder_pb2.ClassifyImagesRequest, context: Any
    ) -> encoder_pb2.ClassifyImagesResponse:
        call = read_classification(request, self._app.models, self._settings, context)
        labels = await call.label_vectors()
        outcomes: list[Any]
        if request.embeddings:
            fields = [f"embeddings[{index}]" for index in range(len(request.embeddings))]
            outcomes = [
                or_error(read_embedding, embedding, call.encode, field)
                for embedding, field in zip(request.embeddings, fields, strict=True)
            ]
        else:
            async with self._fetcher.for_call() as fetches:
                outcomes = await call.encode.run_batch(await self._read_images(request.images, call.encode, fetches))
        return await write_classifications(call, outcomes, labels)

    def _call(self, options: encoder_pb2.EncodeOptions, context: Any, *, streamed: bool = False) -> EncodeCall:
        return read_options(options, self._app.models, self._settings, context, streamed=streamed)

    async def _read_images(
        self, images: Sequence[common_pb2.Image], call: EncodeCall, fetches: Fetching
    ) -> list[EncodeItem | Exception]:
        reads = [functools.partial(self._item, image, f"images[{index}]", call) for index, image in enumerate(images)]
        return await read_items(reads, fetches)

    async def _item(self, image: common_pb2.Image, field: str, call: EncodeCall, fetches: Fetching) -> EncodeItem:
        return call.item(await read_image(image, field, fetches))

    async def _read(self, one: StreamItem[EncodeCall], fetches: Fetching) -> EncodeItem:
        return one.call.item(await read_stream_item(one.message, one.field, fetches))


async def _run_batch(call: EncodeCall, items: Sequence[EncodeItem | BaseException]) -> list[encoder_pb2.EncodeResult]:
    return write_outcomes(await call.run_batch(items), functools.partial(write_result, call), write_error)


def _write_group(
    group: Sequence[tuple[StreamItem[EncodeCall], ItemOutcome[Embedded]]],
) -> encoder_pb2.EncodeStreamResponse:
    response = encoder_pb2.EncodeStreamResponse()
    for one, outcome in group:
        result = write_outcome(outcome, functools.partial(write_result, one.call), write_error)
        response.results.add(ref=one.message.ref, result=result)
    return response
