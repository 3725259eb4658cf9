"""EncoderService of the mesh: every encoder behind this router under the contract of one."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh_chassis import encode_answers
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.labels import check_answer_size, field_of_items
from lensmesh_chassis.messages.packing import copy_all
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.thumbnails import check_thumbnail_px
from router_svc.call_scope import CallScope
from router_svc.model_proxy import ModelProxy, ModelStream
from router_svc.upstreams.batch_call import BatchCalls
from router_svc.upstreams.images import PackedImage
from router_svc.upstreams.kinds import Kind
from router_svc.upstreams.models import Encoders


class EncodeStreamOfOneCall(ModelStream):
    """An EncodeStream: its images and its texts, each gathered into batch calls of their own."""

    step = "encode"
    answer_type = encoder_pb2.EncodeStreamResult
    result_type = encoder_pb2.EncodeResult

    def field_of(self, item: encoder_pb2.EncodeStreamItem) -> str:
        name = item.WhichOneof("input")
        if name is None:
            raise InvalidInput(Reason.IMAGE_MISSING, "the item has neither image nor text: set one", field="image")
        return name


class EncoderProxy(ModelProxy[Encoders], encoder_pb2_grpc.EncoderServiceServicer):
    """Passes EncoderService on."""

    async def GetInfo(self, request: encoder_pb2.GetInfoRequest, context: Any) -> encoder_pb2.GetInfoResponse:
        # Unavailable while the first encoder has not told what it serves: an empty list would look like no models.
        await self._directory.default_space()
        return encoder_pb2.GetInfoResponse(
            models=self._directory.models(),
            limits=self._limits.of(Kind.ENCODER),
            server=self._runtime.server_info(),
            local_feature_kind=self._directory.common_feature_kind(),
        )

    async def EncodeImages(
        self, request: encoder_pb2.EncodeImagesRequest, context: Any
    ) -> encoder_pb2.EncodeImagesResponse:
        self._check(request.images, "images")
        options = request.options
        check_thumbnail_px(options.thumbnail_px, "options.thumbnail_px")
        each = encode_answers.answer_bytes(featured=options.local_features, thumbnail_px=options.thumbnail_px)
        if each:
            encode_answers.check_answer_size(len(request.images), self._settings.max_message_bytes, each)
        images = list(map(PackedImage.of, request.images))
        results = await self._models.images.run(images, options, CallScope.of(context, "images[]"))
        return encoder_pb2.EncodeImagesResponse(results=results)

    async def EncodeTexts(
        self, request: encoder_pb2.EncodeTextsRequest, context: Any
    ) -> encoder_pb2.EncodeTextsResponse:
        self._check(request.texts, "texts")
        results = await self._models.texts.run(request.texts, request.options, CallScope.of(context, "texts[]"))
        return encoder_pb2.EncodeTextsResponse(results=results)

    async def ClassifyImages(
        self, request: encoder_pb2.ClassifyImagesRequest, context: Any
    ) -> encoder_pb2.ClassifyImagesResponse:
        field = field_of_items(request.images, request.embeddings)
        items = getattr(request, field)
        self._check(items, field)
        check_answer_size(request.labels, len(items), request.top, self._settings.max_message_bytes)
        images, vectors = list(map(PackedImage.of, request.images)), list(request.embeddings)
        # The rest goes with every call that the items are cut into.
        request.ClearField("images")
        request.ClearField("embeddings")
        scope = CallScope.of(context, f"{field}[]")
        if vectors:
            results = await self._models.vector_classification.run(vectors, request, scope)
        else:
            results = await self._models.classification.run(images, request, scope)
        response = encoder_pb2.ClassifyImagesResponse()
        await copy_all(results, response.results)
        return response

    async def EncodeStream(
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[encoder_pb2.EncodeStreamResponse]:
        async with aclosing(self._answers(request_iterator, context)) as groups:
            async for group in groups:
                most = _most_at_once(group, self._settings.max_message_bytes)
                for first in range(0, len(group), most):
                    yield encoder_pb2.EncodeStreamResponse(results=group[first : first + most])

    def _open(self, options: encoder_pb2.EncodeOptions, scope: CallScope) -> ModelStream:
        calls: dict[str, BatchCalls[Any, Any, Any]] = {"image": self._models.images, "text": self._models.texts}
        return EncodeStreamOfOneCall(self._settings, calls, options, scope)


def _most_at_once(group: Sequence[encoder_pb2.EncodeStreamResult], max_message_bytes: int) -> int:
    """Return how many answers of a group surely fit into a message."""
    featured = any(answer.result.HasField("local_features") for answer in group)
    largest = max((len(answer.result.thumbnail.content) for answer in group), default=0)
    each = encode_answers.answer_bytes_with(largest, featured=featured)
    return encode_answers.answers_in(max_message_bytes, each) if each else max(1, len(group))
