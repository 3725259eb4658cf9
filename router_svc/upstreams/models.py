"""The model services as the rest of the router uses them: lists in, one result per item out, in order."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing

from google.rpc import status_pb2

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.errors import InternalFault, InvalidInput
from lensmesh_chassis.reasons import Reason
from router_svc.model_directory import ModelDirectory, ModelTargets
from router_svc.upstreams.batch_call import BatchCalls
from router_svc.upstreams.errors import ReplicaLost, readable, unavailable
from router_svc.upstreams.pool import Patience, UpstreamPool
from router_svc.upstreams.stubs import CaptionerStub, EncoderStub
from router_svc.upstreams.suspects import ItemSuspects

NO_PATIENCE = Patience()


def image_bytes(image: common_pb2.Image) -> int:
    """About what an image takes in a message."""
    # Not len(image.content): protobuf copies the bytes each time they are looked at.
    return image.ByteSize() + 8


def text_bytes(text: str) -> int:
    """At most what a text takes in a message."""
    return 4 * len(text) + 8


def image_identity(image: common_pb2.Image) -> bytes:
    """What tells an image from any other."""
    return image.content or image.uri.encode()


def too_costly(path: str) -> InvalidInput:
    """Make the error of an image that ends the processes that work at it."""
    return InvalidInput(
        Reason.IMAGE_TOO_COSTLY,
        f"{path} ended the services that worked at it, one after the other, and is given to no other: encode it again",
        field=path,
    )


def _text_too_costly(path: str) -> InternalFault:
    return InternalFault(
        Reason.MODEL_FAILED,
        f"{path} ended the services that worked at it, one after the other, and is given to no other",
        metadata={"field": path},
    )


class Encoders:
    """All encoders of the mesh."""

    def __init__(self, pool: UpstreamPool[EncoderStub], directory: ModelDirectory) -> None:
        self.pool = pool
        self._directory = directory
        suspects = ItemSuspects()
        self._images: BatchCalls[EncoderStub, common_pb2.Image, encoder_pb2.EncodeResult] = BatchCalls(
            pool, suspects, size_of=image_bytes, content_of=image_identity, refuse=_no_vector, blame=too_costly
        )
        self._texts: BatchCalls[EncoderStub, str, encoder_pb2.EncodeResult] = BatchCalls(
            pool, suspects, size_of=text_bytes, content_of=str.encode, refuse=_no_vector, blame=_text_too_costly
        )
        self._classifications: BatchCalls[EncoderStub, common_pb2.Image, encoder_pb2.Classification] = BatchCalls(
            pool,
            suspects,
            size_of=image_bytes,
            content_of=image_identity,
            refuse=lambda status: encoder_pb2.Classification(error=status),
            blame=too_costly,
        )

    async def images(
        self,
        images: Sequence[common_pb2.Image],
        options: encoder_pb2.EncodeOptions,
        *,
        path_of: Callable[[int], str],
        patience: Patience = NO_PATIENCE,
        deadline: float | None = None,
    ) -> list[encoder_pb2.EncodeResult]:
        """One result per image, in the space of the options or the default one. Errors as of BatchCalls.run."""

        async def send(
            stub: EncoderStub, batch: Sequence[common_pb2.Image], timeout_s: float
        ) -> Sequence[encoder_pb2.EncodeResult]:
            request = encoder_pb2.EncodeImagesRequest(images=batch, options=chosen)
            return readable(self.pool.kind, await stub.EncodeImages(request, timeout=timeout_s)).results

        chosen = encoder_pb2.EncodeOptions()
        chosen.CopyFrom(options)
        return await self._images.run(
            images,
            find=lambda: self._find(chosen),
            send=send,
            path_of=path_of,
            patience=patience,
            deadline=deadline,
        )

    async def texts(
        self,
        texts: Sequence[str],
        options: encoder_pb2.EncodeOptions,
        *,
        path_of: Callable[[int], str],
        patience: Patience = NO_PATIENCE,
        deadline: float | None = None,
    ) -> list[encoder_pb2.EncodeResult]:
        """One result per text, as `images`."""

        async def send(stub: EncoderStub, batch: Sequence[str], timeout_s: float) -> Sequence[encoder_pb2.EncodeResult]:
            request = encoder_pb2.EncodeTextsRequest(texts=batch, options=chosen)
            return readable(self.pool.kind, await stub.EncodeTexts(request, timeout=timeout_s)).results

        chosen = encoder_pb2.EncodeOptions()
        chosen.CopyFrom(options)
        return await self._texts.run(
            texts, find=lambda: self._find(chosen), send=send, path_of=path_of, patience=patience, deadline=deadline
        )

    async def classify(
        self, request: encoder_pb2.ClassifyImagesRequest, *, path_of: Callable[[int], str], deadline: float | None
    ) -> list[encoder_pb2.Classification]:
        """One result per image of the request."""

        async def send(
            stub: EncoderStub, batch: Sequence[common_pb2.Image], timeout_s: float
        ) -> Sequence[encoder_pb2.Classification]:
            part = encoder_pb2.ClassifyImagesRequest(
                images=batch,
                labels=request.labels,
                template=request.template,
                priority=request.priority,
                space_id=chosen.space_id,
            )
            return readable(self.pool.kind, await stub.ClassifyImages(part, timeout=timeout_s)).results

        chosen = encoder_pb2.EncodeOptions(space_id=request.space_id)
        return await self._classifications.run(
            request.images, find=lambda: self._find(chosen), send=send, path_of=path_of, deadline=deadline
        )

    async def space(self, options: encoder_pb2.EncodeOptions) -> str:
        """The space that the options name, or mean where they name none. Errors as of Directory.space_with and
        Directory.encoders."""
        chosen = options.space_id or (await self._directory.space_with(options.transparency)).id
        await self._directory.encoders(chosen)
        return chosen

    async def _find(self, options: encoder_pb2.EncodeOptions) -> ModelTargets:
        if not options.space_id:
            # Said to every encoder, so that all parts of a batch lie in one space.
            options.space_id = (await self._directory.space_with(options.transparency)).id
        return await self._directory.encoders(options.space_id)


class Captioners:
    """All captioners of the mesh."""

    def __init__(self, pool: UpstreamPool[CaptionerStub], directory: ModelDirectory) -> None:
        self.pool = pool
        self.directory = directory
        self._suspects = ItemSuspects()
        self._images: BatchCalls[CaptionerStub, common_pb2.Image, caption_pb2.CaptionResult] = BatchCalls(
            pool,
            self._suspects,
            size_of=image_bytes,
            content_of=image_identity,
            refuse=lambda status: caption_pb2.CaptionResult(error=status),
            blame=too_costly,
        )

    async def images(
        self,
        images: Sequence[common_pb2.Image],
        options: caption_pb2.CaptionOptions,
        *,
        path_of: Callable[[int], str],
        patience: Patience = NO_PATIENCE,
        deadline: float | None = None,
    ) -> list[caption_pb2.CaptionResult]:
        """One result per image, by the model of the options or the default one. Errors as of BatchCalls.run."""

        async def send(
            stub: CaptionerStub, batch: Sequence[common_pb2.Image], timeout_s: float
        ) -> Sequence[caption_pb2.CaptionResult]:
            request = caption_pb2.CaptionImagesRequest(images=batch, options=chosen)
            return readable(self.pool.kind, await stub.CaptionImages(request, timeout=timeout_s)).results

        async def find() -> ModelTargets:
            # Said to every captioner: another one's own default may be another model.
            chosen.model = options.model or await self.directory.default_caption_model()
            return await self.directory.captioners(chosen.model)

        chosen = caption_pb2.CaptionOptions()
        chosen.CopyFrom(options)
        return await self._images.run(
            images,
            find=find,
            send=send,
            path_of=path_of,
            patience=patience,
            deadline=deadline,
        )

    async def one(
        self, request: caption_pb2.StreamCaptionRequest, *, deadline: float | None
    ) -> AsyncGenerator[caption_pb2.StreamCaptionResponse, None]:
        """The pieces of one image's caption as they are written, by the model of the request or the default one.

        Raises Unavailable where a captioner ended after the first piece, and InvalidInput with reason IMAGE_TOO_COSTLY
        where the image ends captioners.
        """
        # Said to every captioner: another one's own default may be another model.
        request.options.model = request.options.model or await self.directory.default_caption_model()
        serving = await self.directory.captioners(request.options.model)
        content = image_identity(request.image)
        async with AsyncExitStack() as alone:
            while True:
                if self._suspects.refuses(content):
                    raise too_costly("image")
                begun = False
                pieces = self.pool.stream(
                    lambda stub, timeout_s: stub.StreamCaption(request, timeout=timeout_s),
                    serving.targets,
                    deadline=deadline,
                    loses_once=True,
                )
                try:
                    async with aclosing(pieces):
                        async for piece in pieces:
                            begun = True
                            yield piece
                except ReplicaLost as lost:
                    others = await self.pool.lost_others(self._suspects.lost_at(content))
                    self._suspects.lost([content], others=others)
                    if begun and not self._suspects.refuses(content):
                        raise unavailable(self.pool.kind, serving.targets, lost) from lost
                else:
                    self._suspects.answered([content])
                    return
                if self._suspects.most_with(content):
                    await alone.aclose()
                    await alone.enter_async_context(self._suspects.one_at_a_time(deadline))


def _no_vector(status: status_pb2.Status) -> encoder_pb2.EncodeResult:
    return encoder_pb2.EncodeResult(error=status)
