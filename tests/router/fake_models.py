"""An encoder and a captioner that behave by the contracts."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from lensmesh.caption.v1 import caption_pb2, caption_pb2_grpc
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh_chassis.errors import InvalidInput, LensmeshError, NotBuilt, PreconditionFailed
from lensmesh_chassis.limits import check_items
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status
from tests.router.faults import SPACE, Faults, vector


def perceptual_hash(content: bytes) -> common_pb2.PerceptualHash:
    """The hash of an image."""
    word, _, rest = content.partition(b" ")
    if word != b"look":
        return common_pb2.PerceptualHash(hash=hashlib.sha256(content).digest(), quality=0 if word == b"plain" else 90)
    name, bits, *_ = rest.split(b" ")
    number = int.from_bytes(hashlib.sha256(name).digest(), "big") ^ ((1 << int(bits)) - 1)
    return common_pb2.PerceptualHash(hash=number.to_bytes(32, "big"), quality=90)


def local_features(content: bytes, kind: common_pb2.LocalFeatureKind.ValueType) -> common_pb2.LocalFeatures:
    """The features of an image: two points, of one of one colour none."""
    count = 0 if content.startswith(b"plain") else 2
    drawn = hashlib.sha256(content).digest()
    size = 128 if kind == common_pb2.LOCAL_FEATURE_KIND_ROOTSIFT else 32
    return common_pb2.LocalFeatures(kind=kind, points=drawn[: 4 * count], descriptors=count * (size // 32) * drawn)


def thumbnail(content: bytes, px: int) -> bytes:
    """The bytes of an image's thumbnail."""
    return b"webp %d " % px + content


class FakeEncoder(encoder_pb2_grpc.EncoderServiceServicer):
    """Encodes by digest. An image that begins with "bad" is none, and one that begins with "plain" is of one colour.

    Images "look NAME BITS ..." of one name look alike: so many bits of their hashes are changed.
    """

    name = "lensmesh.encoder.v1.EncoderService"

    def __init__(self, *spaces: common_pb2.VectorSpace, max_items: int = 256) -> None:
        self.spaces = spaces or (SPACE,)
        self.max_items = max_items
        self.faults = Faults()
        self.images: list[bytes] = []
        self.texts: list[str] = []
        self.options: list[encoder_pb2.EncodeOptions] = []
        self.classified: list[encoder_pb2.ClassifyImagesRequest] = []
        self.request_ids: list[str] = []
        self.time_left_s: list[float] = []
        self.max_message_bytes = 32 << 20
        self.logit_scale = 100.0
        """0: what it serves cannot classify."""
        self.makes_hashes = True
        """Older releases make none."""
        self.feature_kind = common_pb2.LOCAL_FEATURE_KIND_ORB
        """Kind of the local features that it tells of and makes; unspecified without OpenCV."""
        self.makes_features = True
        self.shown: list[bytes] = []
        """Contents of which it was asked for thumbnails."""
        self.makes_thumbnails = True
        """Older releases make none."""
        self.item_errors: dict[bytes, list[LensmeshError]] = {}
        """Errors that an item's next tries have."""

    def add(self, server: grpc.aio.Server) -> None:
        encoder_pb2_grpc.add_EncoderServiceServicer_to_server(self, server)

    async def GetInfo(self, request: Any, context: Any) -> encoder_pb2.GetInfoResponse:
        return encoder_pb2.GetInfoResponse(
            models=[
                encoder_pb2.ServedModel(
                    model=common_pb2.ModelInfo(name=space.model, kind=common_pb2.MODEL_KIND_MOCK),
                    spaces=[space],
                    context_tokens=77,
                    logit_scale=self.logit_scale or None,
                    label_scoring=encoder_pb2.LABEL_SCORING_SOFTMAX
                    if self.logit_scale
                    else encoder_pb2.LABEL_SCORING_UNSPECIFIED,
                )
                for space in self.spaces
            ],
            limits=common_pb2.Limits(
                max_items=self.max_items,
                max_message_bytes=self.max_message_bytes,
                max_image_bytes=20 << 20,
                max_image_pixels=50_000_000,
                max_image_side_ratio=200,
                max_text_chars=10_000,
                max_labels=10_000,
            ),
            server=common_pb2.ServerInfo(version="1", instance="fake-encoder"),
            local_feature_kind=self.feature_kind,
        )

    async def EncodeImages(self, request: encoder_pb2.EncodeImagesRequest, context: Any) -> Any:
        check_items(len(request.images), self.max_items, "images")
        self._note(request.options, context)
        async with self.faults.call(len(request.images)):
            space = self._space(request.options)
            self.images += [image.content for image in request.images]
            return encoder_pb2.EncodeImagesResponse(
                results=[
                    self._image(index, image, space, request.options) for index, image in enumerate(request.images)
                ]
            )

    async def EncodeTexts(self, request: encoder_pb2.EncodeTextsRequest, context: Any) -> Any:
        check_items(len(request.texts), self.max_items, "texts")
        self._note(request.options, context)
        async with self.faults.call(len(request.texts)):
            space = self._space(request.options)
            self.texts += request.texts
            return encoder_pb2.EncodeTextsResponse(
                results=[self._text(index, text, space) for index, text in enumerate(request.texts)]
            )

    def EncodeStream(self, request_iterator: Any, context: Any) -> Any:
        raise NotBuilt(Reason.NOT_IMPLEMENTED, "the router makes batch calls", metadata={"field": "EncodeStream"})

    async def ClassifyImages(self, request: encoder_pb2.ClassifyImagesRequest, context: Any) -> Any:
        """Score by digest: a label fits as its first byte says, 0 to 1. All is said of each image with `top`."""
        given = request.embeddings or request.images
        check_items(len(given), self.max_items, "embeddings" if request.embeddings else "images")
        async with self.faults.call(len(given)):
            space = self._space(encoder_pb2.EncodeOptions(space_id=request.space_id))
            self.classified.append(request)
            return encoder_pb2.ClassifyImagesResponse(
                results=[self._classified(index, one, request, space) for index, one in enumerate(given)]
            )

    def _classified(
        self, index: int, one: Any, request: encoder_pb2.ClassifyImagesRequest, space: common_pb2.VectorSpace
    ) -> encoder_pb2.Classification:
        result = encoder_pb2.Classification()
        if isinstance(one, common_pb2.Image):
            made = self._image(index, one, space)
            if made.HasField("error"):
                result.error.CopyFrom(made.error)
                return result
            one = made.embedding
        elif one.space_id != space.id:
            path = f"embeddings[{index}].space_id"
            error = PreconditionFailed(Reason.SPACE_MISMATCH, f"{path} is another", field=path)
            return encoder_pb2.Classification(error=to_status(error))
        likes = [hashlib.sha256(one.data + label.encode()).digest()[0] / 255 for label in request.labels]
        if not request.top:
            result.scores.probabilities.extend(likes)
            return result
        result.scores.SetInParent()
        for place in sorted(range(len(likes)), key=lambda place: -likes[place])[: request.top]:
            result.scores.best.add(index=place, label=request.labels[place], probability=likes[place])
        return result

    def _note(self, options: encoder_pb2.EncodeOptions, context: Any) -> None:
        self.options.append(options)
        self.request_ids += [value for key, value in context.invocation_metadata() if key == "x-request-id"]
        self.time_left_s.append(context.time_remaining())

    def _space(self, options: encoder_pb2.EncodeOptions) -> common_pb2.VectorSpace:
        for space in self.spaces:
            if options.space_id in ("", space.id):
                return space
        raise PreconditionFailed(Reason.SPACE_NOT_SERVED, f"not served: {options.space_id}")

    def _image(
        self,
        index: int,
        image: common_pb2.Image,
        space: common_pb2.VectorSpace,
        options: encoder_pb2.EncodeOptions | None = None,
    ) -> encoder_pb2.EncodeResult:
        field_path = f"images[{index}].content"
        if errors := self.item_errors.get(image.content):
            return encoder_pb2.EncodeResult(error=to_status(errors.pop(0)))
        if image.content.startswith(b"bad"):
            error = InvalidInput(Reason.IMAGE_UNDECODABLE, f"{field_path} is no image", field=field_path)
            return encoder_pb2.EncodeResult(error=to_status(error))
        result = self._result(image.content, space)
        result.low_content = image.content.startswith(b"plain")
        if options is not None and options.perceptual_hash and self.makes_hashes:
            result.perceptual_hash.CopyFrom(perceptual_hash(image.content))
        if options is not None and options.local_features and self.makes_features:
            result.local_features.CopyFrom(local_features(image.content, self.feature_kind))
        if options is not None and options.thumbnail_px:
            self.shown.append(image.content)
        if options is not None and options.thumbnail_px and self.makes_thumbnails:
            result.thumbnail.content = thumbnail(image.content, options.thumbnail_px)
            result.thumbnail.width_px = result.thumbnail.height_px = options.thumbnail_px
        return result

    def _text(self, index: int, text: str, space: common_pb2.VectorSpace) -> encoder_pb2.EncodeResult:
        if not text:
            error = InvalidInput(Reason.TEXT_EMPTY, f"texts[{index}] is empty", field=f"texts[{index}]")
            return encoder_pb2.EncodeResult(error=to_status(error))
        return self._result(text.encode(), space)

    @staticmethod
    def _result(content: bytes, space: common_pb2.VectorSpace) -> encoder_pb2.EncodeResult:
        return encoder_pb2.EncodeResult(
            embedding=vector(content, space), timings=common_pb2.Timings(compute_us=5, total_us=10, batch_size=1)
        )


class FakeCaptioner(caption_pb2_grpc.CaptionerServiceServicer):
    """Describes by the content's bytes. An image that begins with "mute" has no description."""

    name = "lensmesh.caption.v1.CaptionerService"

    def __init__(self, max_items: int = 64, models: Sequence[str] = ("teller",)) -> None:
        self.max_items = max_items
        self.models = models
        self.faults = Faults()
        self.images: list[bytes] = []

    def add(self, server: grpc.aio.Server) -> None:
        caption_pb2_grpc.add_CaptionerServiceServicer_to_server(self, server)

    async def GetInfo(self, request: Any, context: Any) -> caption_pb2.GetInfoResponse:
        return caption_pb2.GetInfoResponse(
            models=[common_pb2.ModelInfo(name=name, weights_digest="0" * 64) for name in self.models],
            limits=common_pb2.Limits(
                max_items=self.max_items, max_message_bytes=32 << 20, max_image_bytes=10 << 20, max_caption_tokens=100
            ),
            server=common_pb2.ServerInfo(version="1", instance="fake-captioner"),
        )

    async def CaptionImages(self, request: caption_pb2.CaptionImagesRequest, context: Any) -> Any:
        check_items(len(request.images), self.max_items, "images")
        async with self.faults.call(len(request.images)):
            self.images += [image.content for image in request.images]
            return caption_pb2.CaptionImagesResponse(
                results=[
                    self._describe(index, image, request.options.model) for index, image in enumerate(request.images)
                ]
            )

    def CaptionStream(self, request_iterator: Any, context: Any) -> Any:
        raise NotBuilt(Reason.NOT_IMPLEMENTED, "the router makes batch calls", metadata={"field": "CaptionStream"})

    async def StreamCaption(self, request: caption_pb2.StreamCaptionRequest, context: Any) -> AsyncIterator[Any]:
        async with self.faults.call(1):
            for word in ("a", " fake"):
                yield caption_pb2.StreamCaptionResponse(delta=word)
            yield caption_pb2.StreamCaptionResponse(caption=self._describe(0, request.image, "").caption)

    def _describe(self, index: int, image: common_pb2.Image, model: str) -> caption_pb2.CaptionResult:
        if image.content.startswith(b"mute"):
            path = f"images[{index}].content"
            error = InvalidInput(Reason.MODEL_FAILED, f"{path} left the model speechless", field=path)
            return caption_pb2.CaptionResult(error=to_status(error))
        return caption_pb2.CaptionResult(
            caption=common_pb2.Caption(
                text=f"an image of {image.content.decode(errors='replace')[:20]}",
                confidence=0.5,
                token_count=4,
                model=f"{model or self.models[0]}@000000000000",
            ),
            timings=common_pb2.Timings(total_us=20, batch_size=1),
        )
