"""The usual gRPC metrics, for all shapes, bounded, on an endpoint that closes."""

import asyncio
import socket
import urllib.error
import urllib.request
from typing import Any

import grpc
import pytest

from lensmesh_chassis.errors import InvalidInput, Unavailable
from lensmesh_chassis.process.server import RunningServer, running
from lensmesh_chassis.reasons import Reason
from tests.chassis.conftest import Serve, Served
from tests.support.every_shape import METHODS, SHAPES, TYPES, FakeApp, call, finish, settings
from tests.support.waiting import until

pytestmark = pytest.mark.both_loops


def value(served: Served, name: str, method: str, **labels: str) -> float | None:
    labels |= {"grpc_service": SHAPES, "grpc_method": method, "grpc_type": TYPES[method]}
    return served.server.runtime.registry.get_sample_value(name, labels)


async def counted(served: Served, expected: float, name: str, method: str, **labels: str) -> None:
    """A call's end is counted a moment after its caller knows."""
    await until(lambda: value(served, name, method, **labels) == expected)


@pytest.mark.parametrize("method", METHODS)
async def test_calls_and_messages_are_counted(served: Served, method: str) -> None:
    answers = await finish(call(served.channel, method, ["aaaa", "bbbb"]))
    await counted(served, 1, "grpc_server_handled_total", method, grpc_code="OK")
    assert value(served, "grpc_server_started_total", method) == 1
    assert value(served, "grpc_server_in_flight", method) == 0
    assert value(served, "grpc_server_handling_seconds_count", method) == 1
    received = 2 if METHODS[method][0] else 1
    assert value(served, "grpc_server_msg_received_total", method) == received
    assert value(served, "grpc_server_msg_received_bytes_sum", method) == 6 * received
    assert value(served, "grpc_server_msg_sent_total", method) == len(answers)
    assert value(served, "grpc_server_msg_sent_bytes_sum", method) == sum(len(answer) + 2 for answer in answers)


@pytest.mark.parametrize("method", METHODS)
async def test_failures_are_counted_by_their_code(served: Served, method: str) -> None:
    served.app.shapes.fault = InvalidInput(Reason.NO_ITEMS, "no items")
    with pytest.raises(grpc.aio.AioRpcError):
        await finish(call(served.channel, method))
    await counted(served, 1, "grpc_server_handled_total", method, grpc_code="INVALID_ARGUMENT")
    assert value(served, "grpc_server_handled_total", method, grpc_code="OK") is None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("code", ["CANCELLED", "DEADLINE_EXCEEDED"])
async def test_callers_that_leave_are_counted(served: Served, method: str, code: str) -> None:
    served.app.shapes.hold = asyncio.Event()
    rpc = call(served.channel, method, timeout=1.0 if code == "DEADLINE_EXCEEDED" else None)
    waiting = asyncio.create_task(finish(rpc))
    await asyncio.wait_for(served.app.shapes.entered.wait(), 30)
    if code == "CANCELLED":
        assert value(served, "grpc_server_in_flight", method) == 1
        rpc.cancel()
    with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
        await waiting
    await counted(served, 1, "grpc_server_handled_total", method, grpc_code=code)
    assert value(served, "grpc_server_in_flight", method) == 0


async def test_a_hostile_caller_cannot_grow_the_labels(served: Served) -> None:
    registry = served.server.runtime.registry
    await finish(call(served.channel, "UnaryUnary"))
    raw: Any = served.channel

    async def ask(path: str) -> None:
        await raw.unary_unary(path)(b"")

    before = sum(len(metric.samples) for metric in registry.collect())
    for number in range(50):
        for path in (f"/{SHAPES}/Made{number}", f"/made.up.Service{number}/Get"):
            with pytest.raises(grpc.aio.AioRpcError):
                await ask(path)
    assert sum(len(metric.samples) for metric in registry.collect()) == before


def scrape(server: RunningServer) -> str:
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


async def test_the_endpoint_shows_them_and_closes(serve: Serve) -> None:
    async with serve(metrics_listen="127.0.0.1:0") as served:
        await finish(call(served.channel, "UnaryUnary"))
        await counted(served, 1, "grpc_server_handled_total", "UnaryUnary", grpc_code="OK")
        text = await asyncio.to_thread(scrape, served.server)
    assert f'grpc_server_handled_total{{grpc_code="OK",grpc_method="UnaryUnary",grpc_service="{SHAPES}"' in text
    assert "process_resident_memory_bytes" in text
    with pytest.raises(urllib.error.URLError):
        await asyncio.to_thread(scrape, served.server)


async def test_two_servers_count_apart(serve: Serve) -> None:
    async with serve() as one, serve() as two:
        await finish(call(one.channel, "UnaryUnary"))
        await counted(one, 1, "grpc_server_handled_total", "UnaryUnary", grpc_code="OK")
        assert value(two, "grpc_server_started_total", "UnaryUnary") is None


async def test_a_metrics_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Unavailable, match=f"metrics on {address}.*metrics_listen"):
            async with running(settings(metrics_listen=address), FakeApp, "fake"):
                raise AssertionError("it must not start")
