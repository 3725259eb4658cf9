"""The model services as the rest of the router uses them: lists in, one result per item out, in order."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace

from google.protobuf.message import Message

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis import encode_answers
from lensmesh_chassis.errors import InternalFault, InvalidInput, LensmeshError, PreconditionFailed
from lensmesh_chassis.messages.packing import pack_items
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status
from router_svc.call_scope import NO_LIMIT, CallScope
from router_svc.model_directory import ModelDirectory, ModelTargets
from router_svc.upstreams.batch_call import BatchCalls, Options, R
from router_svc.upstreams.errors import ReplicaLost, unavailable
from router_svc.upstreams.images import PackedImage
from router_svc.upstreams.methods import CAPTION_IMAGES, CLASSIFY_IMAGES, ENCODE_IMAGES, ENCODE_TEXTS, STREAM_CAPTION
from router_svc.upstreams.pool import UpstreamPool
from router_svc.upstreams.suspects import ItemSuspects


def too_costly(path: str) -> InvalidInput:
    """Make the error of an image that ends the processes that work at it."""
    return InvalidInput(
        Reason.IMAGE_TOO_COSTLY,
        f"{path} ended the services that worked at it, one after the other, and is given to no other: encode it again",
        field=path,
    )


def _model_failed(path: str) -> InternalFault:
    return InternalFault(
        Reason.MODEL_FAILED,
        f"{path} ended the services that worked at it, one after the other, and is given to no other",
        metadata={"field": path},
    )


def _no_features(path: str) -> PreconditionFailed:
    return PreconditionFailed(
        Reason.LOCAL_FEATURES_UNSUPPORTED,
        f"{path}: the encoder that answered makes no local features: update it, install lensmesh[match] there, or "
        "leave local_features out",
        field=path,
    )


def _with_images(rest: Message, images: Sequence[PackedImage]) -> bytes:
    return pack_items(rest, "images", [image.packed for image in images])


class _ImageCalls(BatchCalls[PackedImage, Options, R]):
    """Batch calls whose items are images."""

    def size_of(self, item: PackedImage) -> int:
        return item.size

    def content_of(self, item: PackedImage) -> bytes:
        return item.packed

    def blame(self, path: str) -> LensmeshError:
        return too_costly(path)


class ImageEncoding(_ImageCalls[encoder_pb2.EncodeOptions, encoder_pb2.EncodeResult]):
    """EncodeImages: images in the space of the options, or in the default one."""

    def __init__(self, pool: UpstreamPool, suspects: ItemSuspects, directory: ModelDirectory) -> None:
        super().__init__(pool, suspects, ENCODE_IMAGES, encoder_pb2.EncodeResult)
        self._directory = directory

    async def find(self, given: encoder_pb2.EncodeOptions, options: encoder_pb2.EncodeOptions) -> ModelTargets:
        targets = await _find_encoders(self._directory, options)
        each = encode_answers.answer_bytes(featured=options.local_features, thumbnail_px=options.thumbnail_px)
        if not each:
            return targets
        # Its answers are many times as large.
        most = min(targets.limits.max_items, encode_answers.answers_in(targets.limits.max_bytes, each))
        return replace(targets, limits=replace(targets.limits, max_items=most))

    async def run(
        self, items: Sequence[PackedImage], options: encoder_pb2.EncodeOptions, scope: CallScope = NO_LIMIT
    ) -> list[encoder_pb2.EncodeResult]:
        results = await super().run(items, options, scope)
        for index, result in enumerate(results if options.local_features else ()):
            if not result.HasField("error") and not result.HasField("local_features"):
                result.Clear()
                result.error.CopyFrom(to_status(_no_features(scope.path(index))))
        return results

    def request(self, items: Sequence[PackedImage], options: encoder_pb2.EncodeOptions) -> bytes:
        return _with_images(encoder_pb2.EncodeImagesRequest(options=options), items)


class TextEncoding(BatchCalls[str, encoder_pb2.EncodeOptions, encoder_pb2.EncodeResult]):
    """EncodeTexts: texts, as ImageEncoding."""

    def __init__(self, pool: UpstreamPool, suspects: ItemSuspects, directory: ModelDirectory) -> None:
        super().__init__(pool, suspects, ENCODE_TEXTS, encoder_pb2.EncodeResult)
        self._directory = directory

    async def find(self, given: encoder_pb2.EncodeOptions, options: encoder_pb2.EncodeOptions) -> ModelTargets:
        return await _find_encoders(self._directory, options)

    def request(self, items: Sequence[str], options: encoder_pb2.EncodeOptions) -> encoder_pb2.EncodeTextsRequest:
        return encoder_pb2.EncodeTextsRequest(texts=items, options=options)

    def size_of(self, item: str) -> int:
        return 4 * len(item) + 8

    def content_of(self, item: str) -> bytes:
        return item.encode()

    def blame(self, path: str) -> LensmeshError:
        return _model_failed(path)


async def _settle_space(directory: ModelDirectory, options: encoder_pb2.ClassifyImagesRequest) -> ModelTargets:
    chosen = encoder_pb2.EncodeOptions(space_id=options.space_id)
    targets = await _find_encoders(directory, chosen)
    options.space_id = chosen.space_id
    return targets


class Classification(_ImageCalls[encoder_pb2.ClassifyImagesRequest, encoder_pb2.Classification]):
    """ClassifyImages; its options are a request without images."""

    def __init__(self, pool: UpstreamPool, suspects: ItemSuspects, directory: ModelDirectory) -> None:
        super().__init__(pool, suspects, CLASSIFY_IMAGES, encoder_pb2.Classification)
        self._directory = directory

    async def find(
        self, given: encoder_pb2.ClassifyImagesRequest, options: encoder_pb2.ClassifyImagesRequest
    ) -> ModelTargets:
        return await _settle_space(self._directory, options)

    def request(self, items: Sequence[PackedImage], options: encoder_pb2.ClassifyImagesRequest) -> bytes:
        return _with_images(options, items)


class VectorClassification(
    BatchCalls[common_pb2.Embedding, encoder_pb2.ClassifyImagesRequest, encoder_pb2.Classification]
):
    """ClassifyImages of vectors in place of images; its options are a request without vectors."""

    def __init__(self, pool: UpstreamPool, suspects: ItemSuspects, directory: ModelDirectory) -> None:
        super().__init__(pool, suspects, CLASSIFY_IMAGES, encoder_pb2.Classification)
        self._directory = directory

    async def find(
        self, given: encoder_pb2.ClassifyImagesRequest, options: encoder_pb2.ClassifyImagesRequest
    ) -> ModelTargets:
        return await _settle_space(self._directory, options)

    def request(
        self, items: Sequence[common_pb2.Embedding], options: encoder_pb2.ClassifyImagesRequest
    ) -> encoder_pb2.ClassifyImagesRequest:
        request = encoder_pb2.ClassifyImagesRequest(embeddings=items)
        request.MergeFrom(options)
        return request

    def size_of(self, item: common_pb2.Embedding) -> int:
        return item.ByteSize() + 8

    def content_of(self, item: common_pb2.Embedding) -> bytes:
        return item.SerializeToString(deterministic=True)

    def blame(self, path: str) -> LensmeshError:
        return _model_failed(path)


class ImageCaptioning(_ImageCalls[caption_pb2.CaptionOptions, caption_pb2.CaptionResult]):
    """CaptionImages: captions by the model of the options, or by the default one."""

    def __init__(self, pool: UpstreamPool, suspects: ItemSuspects, directory: ModelDirectory) -> None:
        super().__init__(pool, suspects, CAPTION_IMAGES, caption_pb2.CaptionResult)
        self._directory = directory

    async def find(self, given: caption_pb2.CaptionOptions, options: caption_pb2.CaptionOptions) -> ModelTargets:
        # Said to every captioner: another one's own default may be another model.
        options.model = given.model or await self._directory.default_caption_model()
        return await self._directory.captioners(options.model)

    def request(self, items: Sequence[PackedImage], options: caption_pb2.CaptionOptions) -> bytes:
        return _with_images(caption_pb2.CaptionImagesRequest(options=options), items)


class Encoders:
    """All encoders of the mesh."""

    def __init__(self, pool: UpstreamPool, directory: ModelDirectory) -> None:
        self.pool = pool
        self._directory = directory
        suspects = ItemSuspects()
        self.images = ImageEncoding(pool, suspects, directory)
        self.texts = TextEncoding(pool, suspects, directory)
        self.classification = Classification(pool, suspects, directory)
        self.vector_classification = VectorClassification(pool, suspects, directory)

    async def settle(self, options: encoder_pb2.EncodeOptions) -> None:
        """Fill in the space that the options mean where they name none.

        Errors as of ModelDirectory.space_with and ModelDirectory.encoders.
        """
        space_id = options.space_id or (await self._directory.space_with(options.transparency)).id
        await self._directory.encoders(space_id)
        options.space_id = space_id


class Captioners:
    """All captioners of the mesh."""

    def __init__(self, pool: UpstreamPool, directory: ModelDirectory) -> None:
        self.pool = pool
        self._directory = directory
        self._suspects = ItemSuspects()
        self.images = ImageCaptioning(pool, self._suspects, directory)

    async def settle(self, options: caption_pb2.CaptionOptions) -> None:
        """Check that somebody runs the model that the options name or mean. Errors as of ModelDirectory.captioners."""
        await self._directory.captioners(options.model)

    async def stream_caption(
        self, request: caption_pb2.StreamCaptionRequest, scope: CallScope
    ) -> AsyncGenerator[caption_pb2.StreamCaptionResponse, None]:
        """Yield the pieces of one image's caption as they are written, by the model of the request or the default one.

        Raises Unavailable where a captioner ended after the first piece, and InvalidInput with reason IMAGE_TOO_COSTLY
        where the image ends captioners.
        """
        # Said to every captioner: another one's own default may be another model.
        request.options.model = request.options.model or await self._directory.default_caption_model()
        serving = await self._directory.captioners(request.options.model)
        content = PackedImage.of(request.image).packed
        async with AsyncExitStack() as alone:
            while True:
                if self._suspects.refuses(content):
                    raise too_costly("image")
                begun = False
                pieces = self.pool.stream(STREAM_CAPTION, request, scope, targets=serving.targets, loses_once=True)
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
                    await alone.enter_async_context(self._suspects.one_at_a_time(scope))


async def _find_encoders(directory: ModelDirectory, options: encoder_pb2.EncodeOptions) -> ModelTargets:
    """Tell who answers in the space of the options, and fill it in where they name none."""
    if not options.space_id:
        # Said to every encoder, so that all parts of a batch lie in one space.
        options.space_id = (await directory.space_with(options.transparency)).id
    return await directory.encoders(options.space_id)
