"""A connection that is old enough is replaced, so that a client asks the name service again; no call notices."""

from typing import Any

from google.protobuf.wrappers_pb2 import StringValue

from lensmesh_chassis.channels import server_options
from tests.chassis.conftest import Serve
from tests.chassis.fakes import SHAPES, call, until


async def test_a_stream_outlives_the_age_of_its_connection_and_calls_take_a_new_one(serve: Serve) -> None:
    async with serve(max_connection_age_seconds=1) as served:
        stream: Any = served.channel.stream_stream(
            f"/{SHAPES}/StreamStream",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=StringValue.FromString,
        )()
        await stream.write(StringValue(value="one"))
        assert (await stream.read()).value == "one"
        peers = served.app.shapes.peers

        async def another_connection() -> bool:
            await call(served.channel, "UnaryUnary", timeout=60)
            return peers[-1] != peers[0]

        await until(another_connection)
        await stream.write(StringValue(value="two"))
        assert (await stream.read()).value == "two"
        await stream.done_writing()
        await until(lambda: peers.count(peers[0]) >= 2)


def test_connections_have_no_age_where_none_is_set() -> None:
    assert "grpc.max_connection_age_ms" not in dict(server_options(1 << 20))
    assert dict(server_options(1 << 20, 1.5))["grpc.max_connection_age_ms"] == 1500
