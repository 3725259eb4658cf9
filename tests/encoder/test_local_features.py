"""Local features of images, where a call asks for them, and what becomes of a call where nobody can make them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from encoder_svc.cached import VectorCodec
from encoder_svc.model import Embedded
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.encode_answers import ANSWER_BYTES
from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images import local_features
from lensmesh_inference.images.local_features import LocalFeatures, features_of
from lensmesh_inference.images.perceptual import PerceptualHash
from tests.encoder.helpers import image, png, refused, serving

FEATURED = encoder_pb2.EncodeOptions(local_features=True)
HIT, MISS = common_pb2.CACHE_OUTCOME_HIT, common_pb2.CACHE_OUTCOME_MISS


def plain() -> common_pb2.Image:
    """An image of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(file, "PNG")
    return common_pb2.Image(content=file.getvalue())


async def test_features_where_they_are_asked_for() -> None:
    images = [image(1), common_pb2.Image(content=b"?"), plain(), image(2)]
    streamed = encoder_pb2.EncodeStreamRequest(
        options=FEATURED,
        items=[
            encoder_pb2.EncodeStreamItem(ref="image", image=image(1)),
            encoder_pb2.EncodeStreamItem(ref="text", text="a red disc"),
        ],
    )
    async with serving() as served:
        info = await served.stub.GetInfo(encoder_pb2.GetInfoRequest())
        request = encoder_pb2.EncodeImagesRequest(images=images, options=FEATURED)
        results = (await served.stub.EncodeImages(request)).results
        texts = (await served.stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["a"], options=FEATURED))).results
        stream = served.stub.EncodeStream(iter([streamed]))
        told = {each.ref: each.result async for response in stream for each in response.results}
    expected = features_of(np.asarray(Image.open(io.BytesIO(png(1)))))
    assert info.local_feature_kind == common_pb2.LOCAL_FEATURE_KIND_ORB
    assert [result.HasField("local_features") for result in [*results, *texts]] == [True, False, True, True, False]
    first = results[0].local_features
    assert first.kind == results[2].local_features.kind == common_pb2.LOCAL_FEATURE_KIND_ORB
    assert (first.points, first.descriptors) == (expected.points, expected.descriptors)
    assert len(first.points) == 4 * len(first.descriptors) // 32 > 0
    assert results[2].local_features.points == b""
    assert results[3].local_features.points != first.points
    assert told["image"].local_features == first
    assert not told["text"].HasField("local_features")
    assert told["text"].WhichOneof("outcome") == "embedding"


async def test_without_opencv_a_call_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_features, "supported", lambda: False)
    async with serving() as served:
        info = await served.stub.GetInfo(encoder_pb2.GetInfoRequest())
        call = served.stub.EncodeImages(encoder_pb2.EncodeImagesRequest(images=[image(1)], options=FEATURED))
        error = await refused(call)
        stream = served.stub.EncodeStream(iter([encoder_pb2.EncodeStreamRequest(options=FEATURED)]))
        streamed = await refused(stream.read())
        one = encoder_pb2.EncodeImagesRequest(images=[image(1)])
        assert (await served.stub.EncodeImages(one)).results[0].HasField("embedding")
    assert info.local_feature_kind == common_pb2.LOCAL_FEATURE_KIND_UNSPECIFIED
    assert isinstance(error, PreconditionFailed)
    assert error.reason == streamed.reason == Reason.LOCAL_FEATURES_UNSUPPORTED
    assert "lensmesh[match]" in error.message


async def test_answers_stay_within_the_largest_message() -> None:
    room = 3 * ANSWER_BYTES
    images = [image(number) for number in range(4)]
    async with serving(max_message_bytes=room) as served:
        four = encoder_pb2.EncodeImagesRequest(images=images, options=FEATURED)
        error = await refused(served.stub.EncodeImages(four))
        three = encoder_pb2.EncodeImagesRequest(images=images[:3], options=FEATURED)
        assert len((await served.stub.EncodeImages(three)).results) == 3
        items = [encoder_pb2.EncodeStreamItem(ref=str(number), image=image(number % 4)) for number in range(12)]
        request = encoder_pb2.EncodeStreamRequest(options=FEATURED, items=items)
        responses = [response async for response in served.stub.EncodeStream(iter([request]))]
    assert (error.reason, error.metadata["fits"]) == (Reason.RESPONSE_TOO_LARGE, "3")
    assert {each.ref for response in responses for each in response.results} == {str(number) for number in range(12)}
    assert all(response.ByteSize() <= room for response in responses)


async def test_a_vector_without_features_does_not_answer_who_asks_for_them() -> None:
    async with serving() as served:

        async def asked(*, featured: bool, hashed: bool = False) -> encoder_pb2.EncodeResult:
            options = encoder_pb2.EncodeOptions(local_features=featured, perceptual_hash=hashed)
            request = encoder_pb2.EncodeImagesRequest(images=[image(1)], options=options)
            return (await served.stub.EncodeImages(request)).results[0]

        without = await asked(featured=False)
        first, again = await asked(featured=True), await asked(featured=True)
        both, hashed = await asked(featured=True, hashed=True), await asked(featured=False, hashed=True)
        both_again = await asked(featured=True, hashed=True)
    told = [result.timings.cache for result in (without, first, again, both, hashed, both_again)]
    assert told == [MISS, MISS, HIT, MISS, MISS, HIT]
    assert not without.HasField("local_features")
    assert not hashed.HasField("local_features")
    assert first.local_features == again.local_features == both.local_features == both_again.local_features
    assert both_again.perceptual_hash == hashed.perceptual_hash


def test_features_are_kept_beside_a_vector_and_a_hash() -> None:
    codec, numbers = VectorCodec(3), np.array([1.5, -2.25, 3e-30], np.float32)
    kept = PerceptualHash(bytes(reversed(range(32))), 87)
    for features in (LocalFeatures(), LocalFeatures(bytes(range(8)), bytes(range(64)))):
        for perceptual in (None, kept):
            value = Embedded(numbers, low_content=True, perceptual_hash=perceptual, local_features=features)
            payload = codec.dump(value)
            loaded = codec.load(payload)
            assert loaded is not None
            assert (loaded.local_features, loaded.perceptual_hash, loaded.low_content) == (features, perceptual, True)
            # Cut, or of another vector's dimension.
            assert all(codec.load(payload[first:]) is None for first in (1, 4, 36))
            assert VectorCodec(4).load(payload) is None
    alone = codec.dump(Embedded(numbers))
    assert codec.load(alone[:-1] + bytes([alone[-1] | 8])) is None, "it says that it has features, and has none"
