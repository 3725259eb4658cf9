"""Local features and thumbnails of EncoderService, passed on by a router in front of several encoders."""

import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.encode_answers import ANSWER_BYTES, answer_bytes
from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from tests.router.conftest import Mesh
from tests.router.fake_models import local_features, thumbnail
from tests.router.fakes import FakeEncoder
from tests.router.helpers import error_of

FEATURED = encoder_pb2.EncodeOptions(local_features=True)
ORB, ROOTSIFT = common_pb2.LOCAL_FEATURE_KIND_ORB, common_pb2.LOCAL_FEATURE_KIND_ROOTSIFT
NONE = common_pb2.LOCAL_FEATURE_KIND_UNSPECIFIED
CONTENTS = [f"p{number}".encode() for number in range(12)]


def request(*contents: bytes) -> encoder_pb2.EncodeImagesRequest:
    images = [common_pb2.Image(content=content) for content in contents]
    return encoder_pb2.EncodeImagesRequest(images=images, options=FEATURED)


async def test_images_and_streams_get_their_features(unstarted: Mesh) -> None:
    unstarted.encoders = [FakeEncoder(), FakeEncoder()]
    mesh = await unstarted.start()
    answer = await mesh.encoder_service.EncodeImages(request(*CONTENTS, b"bad"))
    assert [one.local_features for one in answer.results[:-1]] == [local_features(each, ORB) for each in CONTENTS]
    assert answer.results[-1].HasField("error")
    items = [encoder_pb2.EncodeStreamItem(ref=f"{one!r}", image=common_pb2.Image(content=one)) for one in CONTENTS]
    items.append(encoder_pb2.EncodeStreamItem(ref="text", text="a cat"))
    stream = mesh.encoder_service.EncodeStream(
        iter([encoder_pb2.EncodeStreamRequest(options=FEATURED, items=items)]), timeout=60
    )
    told = {each.ref: each.result async for response in stream for each in response.results}
    assert told.pop("text").WhichOneof("outcome") == "embedding"
    assert {ref: one.local_features for ref, one in told.items()} == {
        f"{one!r}": local_features(one, ORB) for one in CONTENTS
    }


async def test_no_message_holds_more_than_fits(unstarted: Mesh) -> None:
    """Neither what an encoder answers nor what the router does."""
    unstarted.encoder.max_message_bytes = 2 * ANSWER_BYTES
    mesh = await unstarted.start(max_message_bytes=5 * ANSWER_BYTES)
    answer = await mesh.encoder_service.EncodeImages(request(*CONTENTS[:5]))
    assert len(answer.results) == 5
    assert max(mesh.encoder.faults.calls) == 2
    error = await error_of(mesh.encoder_service.EncodeImages(request(*CONTENTS[:6])))
    assert (error.reason, error.metadata["fits"]) == (Reason.RESPONSE_TOO_LARGE, "5")
    items = [encoder_pb2.EncodeStreamItem(ref=f"{one!r}", image=common_pb2.Image(content=one)) for one in CONTENTS]
    stream = mesh.encoder_service.EncodeStream(
        iter([encoder_pb2.EncodeStreamRequest(options=FEATURED, items=items)]), timeout=60
    )
    sizes = [len(response.results) async for response in stream]
    assert sum(sizes) == len(CONTENTS)
    assert max(sizes) <= 5


async def test_an_encoder_that_makes_none_is_told_of_image_by_image(mesh: Mesh) -> None:
    mesh.encoder.makes_features = False
    answer = await mesh.encoder_service.EncodeImages(request(b"p1", b"bad"))
    errors = [from_status(result.error) for result in answer.results]
    assert [error.reason for error in errors] == [Reason.LOCAL_FEATURES_UNSUPPORTED, Reason.IMAGE_UNDECODABLE]
    assert isinstance(errors[0], PreconditionFailed)
    assert "images[0]" in errors[0].message


@pytest.mark.parametrize(("kinds", "told"), [((ORB, ORB), ORB), ((ORB, NONE), NONE), ((ORB, ROOTSIFT), NONE)])
async def test_the_kind_is_told_that_all_encoders_make(
    unstarted: Mesh,
    kinds: tuple[common_pb2.LocalFeatureKind.ValueType, ...],
    told: common_pb2.LocalFeatureKind.ValueType,
) -> None:
    unstarted.encoders = [FakeEncoder(), FakeEncoder()]
    for encoder, kind in zip(unstarted.encoders, kinds, strict=True):
        encoder.feature_kind = kind
    mesh = await unstarted.start()
    info = await mesh.encoder_service.GetInfo(encoder_pb2.GetInfoRequest())
    assert info.local_feature_kind == told


async def test_thumbnails_are_passed_on_within_the_largest_message(unstarted: Mesh) -> None:
    each = answer_bytes(featured=False, thumbnail_px=320)
    unstarted.encoder.max_message_bytes = 2 * each
    mesh = await unstarted.start(max_message_bytes=4 * each)
    options = encoder_pb2.EncodeOptions(thumbnail_px=320)
    images = [common_pb2.Image(content=content) for content in CONTENTS[:5]]
    answer = await mesh.encoder_service.EncodeImages(
        encoder_pb2.EncodeImagesRequest(images=images[:4], options=options)
    )
    assert [result.thumbnail.content for result in answer.results] == [thumbnail(one, 320) for one in CONTENTS[:4]]
    assert max(mesh.encoder.faults.calls) == 2
    error = await error_of(
        mesh.encoder_service.EncodeImages(encoder_pb2.EncodeImagesRequest(images=images, options=options))
    )
    assert (error.reason, error.metadata["fits"]) == (Reason.RESPONSE_TOO_LARGE, "4")
    options.thumbnail_px = 5
    error = await error_of(
        mesh.encoder_service.EncodeImages(encoder_pb2.EncodeImagesRequest(images=images[:1], options=options))
    )
    assert error.reason is Reason.OPTION_INVALID
    assert "options.thumbnail_px" in error.message
