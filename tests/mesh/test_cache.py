"""Through the router: what a model service has done before is not done again, and the caller is told."""

import grpc

from lensmesh.caption.v1 import caption_pb2, caption_pb2_grpc
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from tests.mesh import images

MISS = common_pb2.CACHE_OUTCOME_MISS
HIT = common_pb2.CACHE_OUTCOME_HIT
IMAGE = common_pb2.Image(content=images.plain("teal"))


async def encode(channel: grpc.aio.Channel) -> common_pb2.Timings:
    call = encoder_pb2_grpc.EncoderServiceStub(channel).EncodeImages(encoder_pb2.EncodeImagesRequest(images=[IMAGE]))
    return (await call).results[0].timings


async def encode_streamed(channel: grpc.aio.Channel) -> common_pb2.Timings:
    request = encoder_pb2.EncodeStreamRequest(items=[encoder_pb2.EncodeStreamItem(ref="a", image=IMAGE)])
    call = encoder_pb2_grpc.EncoderServiceStub(channel).EncodeStream(iter([request]))
    [result] = [result async for answer in call for result in answer.results]
    return result.result.timings


async def caption(channel: grpc.aio.Channel) -> common_pb2.Timings:
    stub = caption_pb2_grpc.CaptionerServiceStub(channel)
    return (await stub.CaptionImages(caption_pb2.CaptionImagesRequest(images=[IMAGE]))).results[0].timings


async def test_the_same_image_again_is_a_hit(channel: grpc.aio.Channel) -> None:
    assert (await encode(channel)).cache == MISS
    for again in (encode, encode_streamed):
        timings = await again(channel)
        assert (timings.cache, timings.batch_size, timings.compute_us) == (HIT, 0, 0)
    assert [(await caption(channel)).cache for _ in range(2)] == [MISS, HIT]


async def test_what_was_taken_in_is_known_to_whoever_asks_next(channel: grpc.aio.Channel) -> None:
    item = router_pb2.IngestItem(ref="a", image=IMAGE)
    request = router_pb2.IngestRequest(options=router_pb2.IngestOptions(collection="cached"), item=item)
    assert (await router_pb2_grpc.RouterServiceStub(channel).Ingest(request)).item.id
    assert (await encode(channel)).cache == HIT
    assert (await caption(channel)).cache == HIT
