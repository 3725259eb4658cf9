"""The stream engine behind a real server: cancelled, drained, not read."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh_chassis.channels import OWN_CONNECTIONS
from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.process.server import Runtime, running
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error
from tests.chassis.conftest import Served
from tests.support.every_shape import FakeApp, settings
from tests.support.waiting import until

pytestmark = pytest.mark.both_loops


async def thousand(count: int = 1000) -> AsyncIterator[encoder_pb2.EncodeStreamRequest]:
    for start in range(0, count, 10):
        items = [encoder_pb2.EncodeStreamItem(ref=str(n), text="a") for n in range(start, start + 10)]
        yield encoder_pb2.EncodeStreamRequest(items=items)


async def forty_and_a_pause() -> AsyncIterator[encoder_pb2.EncodeStreamRequest]:
    """More than the server takes, all of it sent: a write that meets the end of its stream hides the status."""
    async for request in thousand(40):
        yield request
    await asyncio.Event().wait()


async def read_all(rpc: Any, answered: list[str]) -> None:
    async for response in rpc:
        answered += [result.ref for result in response.results]


async def test_a_thousand_items_are_answered_once(served: Served) -> None:
    answered: list[str] = []
    await read_all(encoder_pb2_grpc.EncoderServiceStub(served.channel).EncodeStream(thousand()), answered)
    assert sorted(map(int, answered)) == list(range(1000))


async def test_a_caller_that_leaves_midway_empties_the_queue(served: Served) -> None:
    encoder = served.app.encoder
    encoder.hold = asyncio.Event()
    rpc = encoder_pb2_grpc.EncoderServiceStub(served.channel).EncodeStream(thousand())
    reading = asyncio.create_task(read_all(rpc, []))
    await until(lambda: len(encoder.running) == 32)
    assert encoder.read <= 33
    rpc.cancel()
    await asyncio.wait({reading})
    await until(lambda: not encoder.running)


async def test_a_caller_that_does_not_read_is_not_read_from(served: Served) -> None:
    """Answers of some size fill the transport; then reading stops, and goes on when the caller reads."""

    async def large() -> AsyncIterator[encoder_pb2.EncodeStreamRequest]:
        for n in range(3000):
            item = encoder_pb2.EncodeStreamItem(ref=str(n).rjust(10_000), text="a")
            yield encoder_pb2.EncodeStreamRequest(items=[item])

    rpc = encoder_pb2_grpc.EncoderServiceStub(served.channel).EncodeStream(large())
    encoder, seen = served.app.encoder, -1

    async def stands_still() -> bool:
        nonlocal seen
        before, seen = seen, encoder.read
        await asyncio.sleep(0.3)
        return before == encoder.read

    await until(lambda: encoder.read > 0)
    await until(stands_still)
    assert encoder.read < 3000
    answered: list[str] = []
    await read_all(rpc, answered)
    assert sorted(map(int, answered)) == list(range(3000))


async def test_a_drain_answers_what_was_read_and_says_so() -> None:
    apps: list[FakeApp] = []
    answered: list[str] = []

    def build(runtime: Runtime[Any]) -> FakeApp:
        apps.append(FakeApp(runtime))
        apps[0].encoder.hold = asyncio.Event()
        return apps[0]

    async def open_after(hold: asyncio.Event, draining: asyncio.Event) -> None:
        await draining.wait()
        hold.set()

    async with running(settings(), build, "fake") as server:
        encoder = apps[0].encoder
        assert encoder.hold is not None
        opening = asyncio.create_task(open_after(encoder.hold, server.runtime.draining))
        channel = grpc.aio.insecure_channel(server.address, [OWN_CONNECTIONS])
        rpc = encoder_pb2_grpc.EncoderServiceStub(channel).EncodeStream(forty_and_a_pause())
        reading = asyncio.create_task(read_all(rpc, answered))
        await until(lambda: len(encoder.running) == 32)
    # Left: the server drained while the stream ran.
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reading
    await opening
    await channel.close()
    error = from_rpc_error(caught.value)
    assert isinstance(error, Unavailable)
    assert error.reason is Reason.DRAINING
    assert sorted(map(int, answered)) == list(range(32))
