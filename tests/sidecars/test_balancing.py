"""What the Envoys between two services do with replicas that fail, drain or have too much to do."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.errors import InvalidInput, Overloaded, Unavailable
from lensmesh_chassis.limits import DEFAULT_MAX_MESSAGE_BYTES
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error
from tests.sidecars.conftest import Pair
from tests.sidecars.fakes import ENCODER
from tests.support.waiting import until

KIB = 1 << 10
TEXTS = encoder_pb2.EncodeTextsRequest(texts=["a"])
AWAY = Unavailable(Reason.DRAINING, "the service is shutting down")


async def test_calls_go_to_both(pair: Pair) -> None:
    await asyncio.gather(*(pair.stub.EncodeTexts(TEXTS, timeout=60) for _ in range(60)))
    assert sum(pair.calls) == 60
    assert min(pair.calls) > 5


async def test_a_call_that_one_cannot_take_now_goes_to_the_other(pair: Pair) -> None:
    pair.replicas[0].fault = AWAY
    await asyncio.gather(*(pair.stub.EncodeTexts(TEXTS, timeout=60) for _ in range(40)))
    assert pair.calls[0] > 0
    assert pair.calls[1] == 40


async def test_a_large_request_can_be_sent_again_too(pair: Pair) -> None:
    """Envoy and gRPC both give up on requests that do not fit their buffers, which are small unless told."""
    # As large as the limit lets it be, up to the bytes around the content.
    images = [common_pb2.Image(content=bytes(DEFAULT_MAX_MESSAGE_BYTES // 4 - KIB)) for _ in range(4)]
    request = encoder_pb2.EncodeImagesRequest(images=images)
    pair.replicas[0].fault = AWAY
    for _ in range(40):
        await pair.stub.EncodeImages(request, timeout=120)
        if pair.calls[0]:
            break
    assert pair.calls[0] > 0
    assert pair.replicas[0].bytes == pair.calls[0] * request.ByteSize()
    assert pair.replicas[1].bytes == pair.calls[1] * request.ByteSize()


async def test_overload_is_answered_at_once_and_costs_no_replica_its_place(pair: Pair) -> None:
    """Sending it again would make it worse; the answer tells the caller how long to wait."""
    for replica in pair.replicas:
        replica.fault = Overloaded(Reason.OVERLOADED, "the queue is full", retry_after_s=2.5)
    for number in range(1, 21):
        with pytest.raises(grpc.RpcError) as caught:
            await pair.stub.EncodeTexts(TEXTS, timeout=60)
        error = from_rpc_error(caught.value)
        assert isinstance(error, Overloaded)
        # The details pass the Envoys unharmed.
        assert error.retry_after_s == 2.5
        assert sum(pair.calls) == number
    await pair.envoys.until_healthy("router", "egress_encoder", 2)
    assert "ejections_enforced_total: 0" in await pair.envoys.page("router", "/stats?filter=outlier")


async def test_a_mistake_of_the_caller_is_not_sent_again(pair: Pair) -> None:
    for replica in pair.replicas:
        replica.fault = InvalidInput(Reason.NO_ITEMS, "texts is empty: send 1 to 256 items", field="texts")
    with pytest.raises(grpc.RpcError) as caught:
        await pair.stub.EncodeTexts(TEXTS, timeout=60)
    error = from_rpc_error(caught.value)
    assert [violation.field for violation in error.violations] == ["texts"]
    assert sum(pair.calls) == 1


async def test_a_stream_is_not_sent_again(pair: Pair) -> None:
    """Nobody knows how much of it was done: its caller does."""
    for replica in pair.replicas:
        replica.fault = AWAY

    async def requests() -> AsyncIterator[encoder_pb2.EncodeStreamRequest]:
        yield encoder_pb2.EncodeStreamRequest()

    with pytest.raises(grpc.RpcError) as caught:
        async for _ in pair.stub.EncodeStream(requests(), timeout=60):
            pass
    assert from_rpc_error(caught.value).reason is Reason.DRAINING
    assert sum(pair.calls) == 1


async def test_a_replica_that_always_fails_is_put_aside(pair: Pair) -> None:
    pair.replicas[0].fault = AWAY
    for _ in range(60):
        await pair.stub.EncodeTexts(TEXTS, timeout=60)

    async def ejected() -> bool:
        await pair.stub.EncodeTexts(TEXTS, timeout=60)
        return "ejections_enforced_total: 0" not in await pair.envoys.page("router", "/stats?filter=outlier")

    await until(ejected, "it is put aside")
    # Never both: the store behind them may be what is away, and neither is to blame.
    pair.replicas[1].fault = AWAY
    for _ in range(20):
        with pytest.raises(grpc.RpcError):
            await pair.stub.EncodeTexts(TEXTS, timeout=60)
    for replica in pair.replicas:
        replica.fault = None
    await pair.stub.EncodeTexts(TEXTS, timeout=60)


async def test_who_says_not_serving_gets_no_calls(pair: Pair) -> None:
    async def calls_go_to(*wanted: int) -> bool:
        """Whether the next ten calls go to these replicas, or fail where there are none."""
        before = pair.calls
        try:
            for _ in range(10):
                await pair.stub.EncodeTexts(TEXTS, timeout=60)
        except grpc.RpcError as error:
            return not wanted and error.code() is grpc.StatusCode.UNAVAILABLE and pair.calls == before
        return [index for index in range(2) if pair.calls[index] > before[index]] == list(wanted)

    pair.replicas[0].runtime.health.not_serving(ENCODER, "its canary failed")
    await until(lambda: calls_go_to(1), "the first gets none")
    pair.replicas[1].runtime.health.not_serving(ENCODER, "its canary failed")
    await until(calls_go_to, "no replica gets any, and callers are told at once")
    for replica in pair.replicas:
        replica.runtime.health.serving(ENCODER)
    await until(lambda: calls_go_to(0, 1), "both get calls again")


async def test_a_channel_that_watches_health_goes_on_when_one_replica_ends(pair: Pair) -> None:
    """The watch would tell of that one alone: it is refused, and Envoy's own checks count."""
    async with open_channel(str(pair.egress), services=[], instrument=False, health_check=ENCODER) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=ENCODER), timeout=60)
        assert await watch.code() is grpc.StatusCode.UNIMPLEMENTED
        stub = encoder_pb2_grpc.EncoderServiceStub(channel)
        await stub.EncodeTexts(TEXTS, timeout=60)
        pair.replicas[0].runtime.health.not_serving(ENCODER, "its canary failed")
        await pair.envoys.until_healthy("router", "egress_encoder", 1)
        for _ in range(10):
            await stub.EncodeTexts(TEXTS, timeout=60)


async def test_what_belongs_to_a_call_passes_untouched(pair: Pair) -> None:
    """The trace above all: the spans of both sides hang together as if there were no Envoys."""
    sent = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "vendor=1",
        "x-request-id": "from-the-caller",
        "baggage": "lane=bulk",
    }
    await pair.stub.EncodeTexts(TEXTS, timeout=60, metadata=tuple(sent.items()))
    served = next(replica for replica in pair.replicas if replica.calls)
    assert {key: served.metadata.get(key) for key in sent} == sent
