"""A connection that is old enough is replaced, so that a client asks the name service again; no call notices."""

from typing import Any

from google.protobuf.wrappers_pb2 import StringValue

from lensmesh_chassis.channels import Connections, open_channel, server_options
from lensmesh_chassis.process.addresses import parse_address
from tests.chassis.conftest import Serve
from tests.chassis.name_server import name_server
from tests.support.every_shape import SHAPES, call
from tests.support.waiting import until


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


async def test_a_replica_that_is_added_is_found(serve: Serve) -> None:
    """Behind a name with an address for each replica, as headless Services have: what makes an autoscaler useful."""
    async with name_server("127.0.0.1") as (names, at), serve(max_connection_age_seconds=1) as one:
        port = parse_address(one.server.address).port
        async with (
            serve(listen=f"127.0.0.2:{port}", max_connection_age_seconds=1) as added,
            open_channel(f"dns://{at}/encoder.test:{port}") as channel,
        ):
            for _ in range(10):
                await call(channel, "UnaryUnary", timeout=60)
            assert len(one.app.shapes.peers) == 10
            names.addresses.append("127.0.0.2")

            async def used() -> bool:
                await call(channel, "UnaryUnary", timeout=60)
                return bool(added.app.shapes.peers)

            await until(used)


def test_connections_have_no_age_where_none_is_set() -> None:
    assert "grpc.max_connection_age_ms" not in dict(server_options(1 << 20))
    assert dict(server_options(1 << 20, Connections(age_s=1.5)))["grpc.max_connection_age_ms"] == 1500
