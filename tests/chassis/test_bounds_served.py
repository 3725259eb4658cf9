"""A server's bounds as its callers meet them: calls, bytes, compression."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh_chassis.errors import Overloaded
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error
from tests.chassis.conftest import Serve, Served
from tests.support.every_shape import METHODS, SHAPES, call, finish
from tests.support.waiting import until

pytestmark = pytest.mark.both_loops


async def error_of(rpc: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await finish(rpc)
    return caught.value


def sample(served: Served, name: str, **labels: str) -> float:
    from prometheus_client import generate_latest

    text = generate_latest(served.server.runtime.registry).decode()
    return sum(
        one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name == name and labels.items() <= one.labels.items()
    )


@pytest.mark.parametrize("method", METHODS)
async def test_calls_beyond_the_bound_are_refused_and_told_when_to_come_back(serve: Serve, method: str) -> None:
    async with serve(max_calls=3) as served:
        hold = served.app.shapes.hold = asyncio.Event()
        running = [asyncio.create_task(finish(call(served.channel, method))) for _ in range(3)]
        await until(lambda: len(served.app.shapes.request_ids) == 3)
        error = from_rpc_error(await error_of(call(served.channel, method, ["x" * 1_000_000])))
        assert isinstance(error, Overloaded)
        assert error.reason is Reason.OVERLOADED
        assert error.retry_after_s
        assert error.metadata["limit"] == "3"
        assert sample(served, "lensmesh_refused_calls_total", bound="calls") == 1
        # A call is counted when it is over, which its caller may know first.
        await until(
            lambda: sample(served, "grpc_server_handled_total", grpc_method=method, grpc_code="RESOURCE_EXHAUSTED") == 1
        )
        # Whoever looks after the service is still told.
        health = health_pb2_grpc.HealthStub(served.channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
        await encoder_pb2_grpc.EncoderServiceStub(served.channel).GetInfo(encoder_pb2.GetInfoRequest())
        hold.set()
        await asyncio.gather(*running)
        assert await finish(call(served.channel, method))


async def test_a_refused_call_costs_no_message(serve: Serve) -> None:
    async with serve(max_calls=1) as served:
        served.app.shapes.hold = asyncio.Event()
        running = asyncio.create_task(finish(call(served.channel, "UnaryUnary")))
        await served.app.shapes.entered.wait()
        calls = [error_of(call(served.channel, "UnaryUnary", ["x" * 5_000_000])) for _ in range(20)]
        assert {error.code() for error in await asyncio.gather(*calls)} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert sample(served, "grpc_server_msg_received_total", grpc_method="UnaryUnary") == 1
        served.app.shapes.hold.set()
        await running


async def test_thousands_of_calls_at_once_each_get_an_answer_of_ours(serve: Serve) -> None:
    """gRPC drops what waits for its event loop beyond a thousand calls, in silence, as CANCELLED."""
    async with serve(max_calls=100) as served:

        async def one() -> str:
            try:
                return str((await call(served.channel, "UnaryUnary")).value)
            except grpc.aio.AioRpcError as error:
                return str(from_rpc_error(error).reason)

        ended = await asyncio.gather(*(one() for _ in range(2000)))
    assert set(ended) <= {"a", "OVERLOADED"}
    assert ended.count("a") >= 100


async def test_messages_that_are_worked_on_are_bounded(serve: Serve) -> None:
    async with serve(message_bytes=1 << 20) as served:
        hold = served.app.shapes.hold = asyncio.Event()
        body = "x" * 900_000
        calls = [asyncio.create_task(finish(call(served.channel, "UnaryUnary", [body]))) for _ in range(4)]
        await served.app.shapes.entered.wait()
        # A small one passes them, and so does a call of another method.
        small = asyncio.create_task(finish(call(served.channel, "UnaryUnary")))
        other = asyncio.create_task(finish(call(served.channel, "UnaryStream", [body[:1000]])))
        await until(lambda: len(served.app.shapes.request_ids) == 3)
        await asyncio.sleep(0.1)
        assert len(served.app.shapes.request_ids) == 3
        assert sample(served, "lensmesh_message_bytes") >= len(body)
        hold.set()
        await asyncio.gather(*calls, small, other)
        # A caller has its answer before gRPC tells the service that it is done with it.
        await until(lambda: sample(served, "lensmesh_message_bytes") == 0)


async def test_a_call_without_its_message_is_told_so(served: Served) -> None:
    """And not left to gRPC, which has no reason for it."""

    async def nothing() -> AsyncIterator[StringValue]:
        return
        yield StringValue()

    stub = served.channel.stream_unary(
        f"/{SHAPES}/UnaryUnary",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(nothing())
    assert from_rpc_error(caught.value).reason is Reason.MESSAGE_MALFORMED


async def test_compressed_messages_are_refused_before_they_unpack(served: Served) -> None:
    rpc = call(served.channel, "UnaryUnary", ["x" * 1_000_000], compression=grpc.Compression.Gzip)
    assert (await error_of(rpc)).code() is grpc.StatusCode.UNIMPLEMENTED
    assert await finish(call(served.channel, "UnaryUnary")) == ["a"]
    assert sample(served, "grpc_server_msg_received_total", grpc_method="UnaryUnary") == 1


async def test_a_client_that_reads_no_answers_is_read_no_further(serve: Serve) -> None:
    async with serve(message_bytes=1 << 20) as served:
        message = StringValue(value="x" * 200_000)
        stream = served.channel.stream_stream(
            f"/{SHAPES}/StreamStream",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=StringValue.FromString,
        )()

        async def send() -> None:
            for _ in range(500):
                await stream.write(message)

        sending, handled = asyncio.create_task(send()), served.app.shapes.request_ids
        await served.app.shapes.entered.wait()
        before = -1
        while before != len(handled):
            before = len(handled)
            await asyncio.sleep(0.3)
        assert not sending.done()
        assert before < 250
        assert sample(served, "lensmesh_message_bytes") < 2 << 20
        # Nobody else waits for it.
        assert await finish(call(served.channel, "UnaryUnary", ["y" * 200_000])) == ["y" * 200_000]
        stream.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await until(lambda: sample(served, "lensmesh_message_bytes") == 0)


async def test_idle_connections_beyond_the_bound_are_closed_and_stop_nobody(serve: Serve) -> None:
    async with serve(max_connections=4) as served:
        assert await finish(call(served.channel, "UnaryUnary")) == ["a"]
        host, _, port = served.server.address.rpartition(":")
        opened = [await asyncio.open_connection(host, int(port)) for _ in range(20)]
        try:
            # The server speaks first, to those that it takes.
            heard = await asyncio.gather(*(reader.read(1) for reader, _ in opened), return_exceptions=True)
            assert sum(isinstance(one, bytes) and bool(one) for one in heard) <= 3
            assert await finish(call(served.channel, "UnaryUnary")) == ["a"]
        finally:
            for _, writer in opened:
                writer.close()
            await asyncio.gather(*(writer.wait_closed() for _, writer in opened), return_exceptions=True)
