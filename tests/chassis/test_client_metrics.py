"""Calls that a process makes are counted: every shape, every end."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry.client_metrics import ClientMetrics
from tests.chassis.conftest import Served
from tests.support.every_shape import METHODS, SHAPES, TYPES, call, finish
from tests.support.waiting import until

pytestmark = pytest.mark.both_loops


class Caller:
    """A counted channel and what it has counted."""

    def __init__(self, channel: grpc.aio.Channel, registry: CollectorRegistry) -> None:
        self.channel, self.registry = channel, registry

    def value(self, name: str, method: str, **labels: str) -> float | None:
        labels |= {"grpc_service": SHAPES, "grpc_method": method, "grpc_type": TYPES[method]}
        return self.registry.get_sample_value(name, labels)

    async def ended(self, method: str, code: str, count: float = 1) -> None:
        """The code is told a moment after the call's end."""
        await until(lambda: self.value("grpc_client_handled_total", method, grpc_code=code) == count)


@pytest.fixture
async def caller(served: Served) -> AsyncIterator[Caller]:
    registry = CollectorRegistry()
    async with open_channel(served.server.address, metrics=ClientMetrics(registry)) as channel:
        yield Caller(channel, registry)


@pytest.mark.parametrize("method", METHODS)
async def test_every_shape_is_counted_and_timed(caller: Caller, method: str) -> None:
    for number in (1, 2):
        await finish(call(caller.channel, method))
        await caller.ended(method, "OK", number)
        assert caller.value("grpc_client_started_total", method) == number
        assert caller.value("grpc_client_handling_seconds_count", method) == number


@pytest.mark.parametrize("method", METHODS)
async def test_failures_are_counted_by_their_code(served: Served, caller: Caller, method: str) -> None:
    served.app.shapes.fault = InvalidInput(Reason.NO_ITEMS, "no items")
    with pytest.raises(grpc.aio.AioRpcError):
        await finish(call(caller.channel, method))
    await caller.ended(method, "INVALID_ARGUMENT")
    assert caller.value("grpc_client_handled_total", method, grpc_code="OK") is None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("code", ["CANCELLED", "DEADLINE_EXCEEDED"])
async def test_calls_that_are_given_up_are_counted(served: Served, caller: Caller, method: str, code: str) -> None:
    served.app.shapes.hold = asyncio.Event()
    rpc: Any = call(caller.channel, method, timeout=0.5 if code == "DEADLINE_EXCEEDED" else None)
    waiting = asyncio.create_task(finish(rpc))
    if code == "CANCELLED":
        await asyncio.wait_for(served.app.shapes.entered.wait(), 30)
        rpc.cancel()
    with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
        await waiting
    await caller.ended(method, code)


async def test_a_service_that_is_not_there_is_counted() -> None:
    registry = CollectorRegistry()
    async with open_channel("127.0.0.1:1", services=(), metrics=ClientMetrics(registry)) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await finish(call(channel, "UnaryUnary"))
        await Caller(channel, registry).ended("UnaryUnary", "UNAVAILABLE")


@pytest.mark.parametrize("method", METHODS)
async def test_a_call_on_a_closed_channel_ends_too(method: str) -> None:
    registry = CollectorRegistry()
    async with open_channel("127.0.0.1:1", services=(), metrics=ClientMetrics(registry)) as channel:
        pass
    with pytest.raises(grpc.aio.UsageError):
        await finish(call(channel, method))
    caller = Caller(channel, registry)
    await caller.ended(method, "UNKNOWN")
    assert caller.value("grpc_client_started_total", method) == 1
    assert caller.value("grpc_client_handling_seconds_count", method) == 1
