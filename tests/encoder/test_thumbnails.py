"""Thumbnails of images, where a call asks for them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from encoder_svc.cached import VectorCodec
from encoder_svc.model import Embedded
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.encode_answers import answer_bytes
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images.local_features import LocalFeatures
from lensmesh_inference.images.perceptual import PerceptualHash
from lensmesh_inference.images.thumbnail import Thumbnail
from tests.encoder.helpers import image, png, refused, serving

HIT, MISS = common_pb2.CACHE_OUTCOME_HIT, common_pb2.CACHE_OUTCOME_MISS


def asking(px: int) -> encoder_pb2.EncodeOptions:
    return encoder_pb2.EncodeOptions(thumbnail_px=px)


async def test_thumbnails_where_they_are_asked_for() -> None:
    large = common_pb2.Image(content=png(1, 200))
    streamed = encoder_pb2.EncodeStreamRequest(
        options=asking(64),
        items=[
            encoder_pb2.EncodeStreamItem(ref="image", image=large),
            encoder_pb2.EncodeStreamItem(ref="text", text="a red disc"),
        ],
    )
    async with serving() as served:
        images = [large, common_pb2.Image(content=b"?"), image(2)]
        request = encoder_pb2.EncodeImagesRequest(images=images, options=asking(64))
        results = (await served.stub.EncodeImages(request)).results
        texts = (await served.stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["a"], options=asking(64)))).results
        plain = (await served.stub.EncodeImages(encoder_pb2.EncodeImagesRequest(images=[large]))).results
        stream = served.stub.EncodeStream(iter([streamed]))
        told = {each.ref: each.result async for response in stream for each in response.results}
    assert [result.HasField("thumbnail") for result in [*results, *texts, *plain]] == [True, False, True, False, False]
    sizes = [(result.thumbnail.width_px, result.thumbnail.height_px) for result in (results[0], results[2])]
    assert sizes == [(64, 64), (24, 24)]
    shown = Image.open(io.BytesIO(results[0].thumbnail.content))
    assert (shown.format, shown.size) == ("WEBP", (64, 64))
    assert told["image"].thumbnail == results[0].thumbnail
    assert not told["text"].HasField("thumbnail")


@pytest.mark.parametrize("px", [1, 31, 1025, 2**32 - 1])
async def test_a_side_out_of_range_is_refused(px: int) -> None:
    async with serving() as served:
        request = encoder_pb2.EncodeImagesRequest(images=[image(1)], options=asking(px))
        error = await refused(served.stub.EncodeImages(request))
        streamed = await refused(
            served.stub.EncodeStream(iter([encoder_pb2.EncodeStreamRequest(options=asking(px))])).read()
        )
    assert isinstance(error, InvalidInput)
    assert error.reason == streamed.reason == Reason.OPTION_INVALID
    assert [violation.field for violation in error.violations] == ["options.thumbnail_px"]


async def test_answers_stay_within_the_largest_message() -> None:
    room = 3 * answer_bytes(featured=False, thumbnail_px=320)
    images = [image(number) for number in range(4)]
    async with serving(max_message_bytes=room) as served:
        error = await refused(
            served.stub.EncodeImages(encoder_pb2.EncodeImagesRequest(images=images, options=asking(320)))
        )
        three = encoder_pb2.EncodeImagesRequest(images=images[:3], options=asking(320))
        assert len((await served.stub.EncodeImages(three)).results) == 3
        items = [encoder_pb2.EncodeStreamItem(ref=str(number), image=image(number % 4)) for number in range(8)]
        request = encoder_pb2.EncodeStreamRequest(options=asking(320), items=items)
        responses = [response async for response in served.stub.EncodeStream(iter([request]))]
    assert (error.reason, error.metadata["fits"]) == (Reason.RESPONSE_TOO_LARGE, "3")
    assert {each.ref for response in responses for each in response.results} == {str(number) for number in range(8)}
    assert all(len(response.results) <= 3 for response in responses)


async def test_a_vector_without_a_thumbnail_does_not_answer_who_asks_for_one() -> None:
    async with serving() as served:

        async def asked(px: int) -> encoder_pb2.EncodeResult:
            request = encoder_pb2.EncodeImagesRequest(images=[image(1)], options=asking(px))
            return (await served.stub.EncodeImages(request)).results[0]

        results = [await asked(px) for px in (0, 32, 32, 64, 0)]
    assert [result.timings.cache for result in results] == [MISS, MISS, HIT, MISS, HIT]
    assert results[1].thumbnail == results[2].thumbnail
    assert results[1].HasField("thumbnail")
    assert not results[4].HasField("thumbnail")


def test_a_thumbnail_is_kept_beside_all_else() -> None:
    codec, numbers = VectorCodec(3), np.array([1.5, -2.25, 3e-30], np.float32)
    shown = Thumbnail(bytes(range(200)), 320, 17)
    for perceptual in (None, PerceptualHash(bytes(32), 87)):
        for features in (None, LocalFeatures(), LocalFeatures(bytes(8), bytes(64))):
            value = Embedded(numbers, perceptual_hash=perceptual, local_features=features, thumbnail=shown)
            payload = codec.dump(value)
            loaded = codec.load(payload)
            assert loaded is not None
            assert (loaded.thumbnail, loaded.local_features, loaded.perceptual_hash) == (shown, features, perceptual)
            # Cut, or of another vector's dimension.
            assert all(codec.load(payload[first:]) is None for first in (1, 4, 36))
            assert VectorCodec(4).load(payload) is None
    alone = codec.dump(Embedded(numbers))
    assert codec.load(alone[:-1] + bytes([alone[-1] | 16])) is None, "it says that it has one, and has none"
