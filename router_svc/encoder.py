"""EncoderService of the mesh: every encoder behind this router under the contract of one."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from opentelemetry import trace

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.limits import check_items, check_message
from lensmesh_chassis.process.server import Runtime
from lensmesh_chassis.reasons import Reason
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
from router_svc.upstreams.models import Encoders, image_bytes, text_bytes
from router_svc.upstreams.pool import Patience


class EncoderProxy(encoder_pb2_grpc.EncoderServiceServicer):
    """Passes EncoderService on."""

    def __init__(
        self,
        settings: RouterSettings,
        runtime: Runtime[RouterSettings],
        encoders: Encoders,
        directory: ModelDirectory,
        limits: JoinedLimits,
        streams: StreamLimits,
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._encoders = encoders
        self._directory = directory
        self._limits = limits
        self._streams = streams

    async def GetInfo(self, request: encoder_pb2.GetInfoRequest, context: Any) -> encoder_pb2.GetInfoResponse:
        # Unavailable while the first encoder has not told what it serves: an empty list would look like no models.
        await self._directory.default_space()
        return encoder_pb2.GetInfoResponse(
            models=self._directory.models(), limits=self._limits.of(Kind.ENCODER), server=self._runtime.server_info()
        )

    async def EncodeImages(
        self, request: encoder_pb2.EncodeImagesRequest, context: Any
    ) -> encoder_pb2.EncodeImagesResponse:
        check_message(request, self._settings.max_message_bytes)
        check_items(len(request.images), self._settings.max_items, "images")
        results = await self._encoders.images(
            request.images, request.options, path_of=lambda index: f"images[{index}]", deadline=deadline_of(context)
        )
        return encoder_pb2.EncodeImagesResponse(results=results)

    async def EncodeTexts(
        self, request: encoder_pb2.EncodeTextsRequest, context: Any
    ) -> encoder_pb2.EncodeTextsResponse:
        check_message(request, self._settings.max_message_bytes)
        check_items(len(request.texts), self._settings.max_items, "texts")
        results = await self._encoders.texts(
            request.texts, request.options, path_of=lambda index: f"texts[{index}]", deadline=deadline_of(context)
        )
        return encoder_pb2.EncodeTextsResponse(results=results)

    async def ClassifyImages(
        self, request: encoder_pb2.ClassifyImagesRequest, context: Any
    ) -> encoder_pb2.ClassifyImagesResponse:
        check_message(request, self._settings.max_message_bytes)
        check_items(len(request.images), self._settings.max_items, "images")
        results = await self._encoders.classify(
            request, path_of=lambda index: f"images[{index}]", deadline=deadline_of(context)
        )
        return encoder_pb2.ClassifyImagesResponse(results=results)

    async def EncodeStream(
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[encoder_pb2.EncodeStreamResponse]:
        rest = aiter(request_iterator)
        first = await first_message(rest, self._streams.draining)
        if first is None:
            return
        async with _StreamWork(self._settings, self._encoders, first.options, deadline_of(context)) as work:
            await work.choose_space()
            async for group in answers(
                first,
                rest,
                self._streams,
                answer=work.answer,
                size_of=lambda item: item.ByteSize(),
                ref_of=lambda item: item.ref,
                prepare=as_they_are,
            ):
                yield encoder_pb2.EncodeStreamResponse(results=group)


class _StreamWork:
    """One EncodeStream: its images and its texts, each gathered into batch calls of their own."""

    def __init__(
        self,
        settings: RouterSettings,
        encoders: Encoders,
        options: encoder_pb2.EncodeOptions,
        deadline: float | None,
    ) -> None:
        self._encoders = encoders
        self._deadline = deadline
        self._options = encoder_pb2.EncodeOptions()
        self._options.CopyFrom(options)
        if self._options.priority == common_pb2.PRIORITY_UNSPECIFIED:
            # A stream's items travel in unary calls, where the default would be the other lane.
            self._options.priority = common_pb2.PRIORITY_BULK
        self._patience = Patience(away_s=settings.wait_seconds, busy_s=settings.wait_seconds)
        self._images: MicroBatcher[common_pb2.Image, encoder_pb2.EncodeResult] = MicroBatcher(
            self._encode_images,
            size_of=image_bytes,
            max_items=settings.batch_items,
            max_bytes=settings.batch_bytes,
            max_calls=settings.batch_calls,
            step="encode",
            failure_of=failure_of,
        )
        self._texts: MicroBatcher[str, encoder_pb2.EncodeResult] = MicroBatcher(
            self._encode_texts,
            size_of=text_bytes,
            max_items=settings.batch_items,
            max_bytes=settings.batch_bytes,
            max_calls=settings.batch_calls,
            step="encode",
            failure_of=failure_of,
        )

    async def __aenter__(self) -> "_StreamWork":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._images.close()
        await self._texts.close()

    async def choose_space(self) -> None:
        """Settles the space for the whole stream. Raises SPACE_NOT_SERVED before an item is read."""
        self._options.space_id = await self._encoders.pool.patiently(
            lambda: self._encoders.space(self._options), self._patience, deadline=self._deadline
        )

    async def answer(self, item: encoder_pb2.EncodeStreamItem) -> encoder_pb2.EncodeStreamResult:
        try:
            match item.WhichOneof("input"):
                case "image":
                    result = await self._images.submit(item.image)
                case "text":
                    result = await self._texts.submit(item.text)
                case _:
                    raise InvalidInput(
                        Reason.IMAGE_MISSING, "the item has neither image nor text: set one", field="image"
                    )
        except Exception as error:  # noqa: BLE001 - a fault of ours fails one item, not the stream
            spans.fail(trace.get_current_span(), error)
            result = encoder_pb2.EncodeResult(error=to_status(error))
        else:
            if (refused := failure_of(result)) is not None:
                spans.fail(trace.get_current_span(), refused)
        return encoder_pb2.EncodeStreamResult(ref=item.ref, result=result)

    async def _encode_images(self, images: Sequence[common_pb2.Image]) -> Sequence[encoder_pb2.EncodeResult]:
        return await self._encoders.images(
            images, self._options, path_of=lambda _: "image", patience=self._patience, deadline=self._deadline
        )

    async def _encode_texts(self, texts: Sequence[str]) -> Sequence[encoder_pb2.EncodeResult]:
        return await self._encoders.texts(
            texts, self._options, path_of=lambda _: "text", patience=self._patience, deadline=self._deadline
        )
