"""Health tells the truth before, during and after, to those who ask and to those who watch."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from lensmesh_chassis.channels import OWN_CONNECTIONS, open_channel
from lensmesh_chassis.errors import NotFound, Unavailable
from lensmesh_chassis.process.health import LIVE, HealthState
from lensmesh_chassis.process.server import Runtime, running
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error
from tests.chassis.conftest import Serve, Served
from tests.support.every_shape import ENCODER, SHAPES, FakeApp, call, finish, settings
from tests.support.waiting import until

SERVING: int = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: int = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN: int = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


async def check(channel: grpc.aio.Channel, service: str = "") -> Any:
    answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
    return answer.status


async def answers(channel: grpc.aio.Channel, status: int) -> bool:
    return bool(await check(channel) == status)


def test_nothing_serves_before_it_said_so() -> None:
    health = HealthState()
    assert health.status("") == NOT_SERVING
    assert health.reason() == "starting"
    health.add(["a", "b"])
    assert [health.status(name) for name in ("", "a", "b", "c")] == [NOT_SERVING, NOT_SERVING, NOT_SERVING, UNKNOWN]


def test_the_whole_serves_while_each_part_does() -> None:
    health = HealthState()
    health.add(["a", "b"])
    health.serving("a")
    assert (health.status("a"), health.status("")) == (SERVING, NOT_SERVING)
    health.serving("b")
    assert health.status("") == SERVING
    assert health.reason() == ""
    health.not_serving("b", "the database is away")
    assert (health.status("a"), health.status("b"), health.status("")) == (SERVING, NOT_SERVING, NOT_SERVING)
    assert health.reason() == "the database is away"
    health.serving("")
    assert health.status("") == SERVING


def test_what_was_said_during_the_start_holds_after_it() -> None:
    health = HealthState()
    health.add(["a", "b"])
    health.not_serving("b", "no weights")
    health.started()
    assert (health.status("a"), health.status("b")) == (SERVING, NOT_SERVING)


def test_a_process_that_answers_is_live_whatever_its_services_are() -> None:
    """What a liveness probe asks: a store that is away is no reason to restart a service."""
    health = HealthState()
    assert health.status(LIVE) == SERVING
    health.add(["a"])
    health.not_serving("a", "the database is away")
    assert (health.status(LIVE), health.status("")) == (SERVING, NOT_SERVING)
    health.drain()
    assert (health.status(LIVE), health.status("")) == (SERVING, NOT_SERVING)


def test_a_drain_is_final() -> None:
    health = HealthState()
    health.add(["a"])
    health.started()
    health.drain()
    health.serving("a")
    health.serving("")
    assert (health.status("a"), health.status(""), health.reason()) == (NOT_SERVING, NOT_SERVING, "draining")


def test_not_serving_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="why"):
        HealthState().not_serving("", "")


async def test_health_answers_while_the_service_starts(tmp_path: Path) -> None:
    """NOT_SERVING and refused calls until start() is through, SERVING after."""
    apps: list[FakeApp] = []
    go_on = asyncio.Event()

    def build(runtime: Runtime[Any]) -> FakeApp:
        apps.append(FakeApp(runtime))
        apps[0].hold_start = go_on
        return apps[0]

    address = f"unix:{tmp_path}/s"
    ended = asyncio.Event()

    async def serve() -> None:
        async with running(settings(listen=address), build, "fake"):
            await ended.wait()

    serving = asyncio.create_task(serve())
    async with open_channel(address) as channel:
        await until(lambda: bool(apps) and "start" in apps[0].log)
        for service in ("", ENCODER, SHAPES):
            assert await check(channel, service) == NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await finish(call(channel, "UnaryUnary"))
        refused = from_rpc_error(caught.value)
        assert isinstance(refused, Unavailable)
        assert refused.reason is Reason.NOT_READY
        assert "starting" in refused.message
        go_on.set()
        await until(lambda: answers(channel, SERVING))
        assert await finish(call(channel, "UnaryUnary")) == ["a"]
    ended.set()
    await serving
    assert apps[0].log == ["start", "started", "stop"]


async def test_an_unknown_service_is_not_found(served: Served) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(served.channel, "no.such.Service")
    assert isinstance(from_rpc_error(caught.value), NotFound)


async def test_a_watcher_sees_every_change(served: Served) -> None:
    health = served.server.runtime.health
    watch = health_pb2_grpc.HealthStub(served.channel).Watch(health_pb2.HealthCheckRequest(service=ENCODER), timeout=30)
    assert (await watch.read()).status == SERVING
    health.not_serving(ENCODER, "the canary failed")
    assert (await watch.read()).status == NOT_SERVING
    health.serving(ENCODER)
    assert (await watch.read()).status == SERVING
    unknown = health_pb2_grpc.HealthStub(served.channel).Watch(health_pb2.HealthCheckRequest(service="x"), timeout=30)
    assert (await unknown.read()).status == UNKNOWN
    watch.cancel()
    unknown.cancel()


async def test_watchers_that_do_not_read_hold_nobody_up(served: Served) -> None:
    """grpcio's own servicer keeps its lock while it writes to a watcher."""
    health = served.server.runtime.health
    request = health_pb2.HealthCheckRequest(service=ENCODER)
    idle = [health_pb2_grpc.HealthStub(served.channel).Watch(request) for _ in range(5)]
    for number in range(2000):
        health.not_serving(ENCODER, f"trouble {number}")
        health.serving(ENCODER)
        if number % 100 == 0:
            await asyncio.sleep(0)
    health.not_serving(ENCODER, "trouble")
    assert await check(served.channel, ENCODER) == NOT_SERVING
    for watch in idle:
        watch.cancel()


async def test_the_health_address_answers_health_alone(serve: Serve) -> None:
    async with (
        serve(health_listen="127.0.0.1:0") as served,
        grpc.aio.insecure_channel(served.server.health_address, [OWN_CONNECTIONS]) as channel,
    ):
        assert await check(channel) == SERVING
        served.server.runtime.health.not_serving(ENCODER, "no weights")
        assert await check(channel, ENCODER) == NOT_SERVING
        assert await check(served.channel, ENCODER) == NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await finish(call(channel, "UnaryUnary"))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_client_with_health_checks_avoids_a_sick_service(served: Served) -> None:
    health = served.server.runtime.health
    async with open_channel(served.server.address, health_check=SHAPES) as channel:
        assert await finish(call(channel, "UnaryUnary", timeout=30)) == ["a"]
        health.not_serving(SHAPES, "the canary failed")
        await until(lambda: channel.get_state() is not grpc.ChannelConnectivity.READY)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await finish(call(channel, "UnaryUnary", timeout=30))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        # A status display asks without health checks.
        assert await finish(call(served.channel, "UnaryUnary", timeout=30)) == ["a"]


async def test_reflection_lists_all_services(served: Served) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(served.channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=ENCODER),
    ]
    answers = [answer async for answer in stub.ServerReflectionInfo(iter(requests))]
    names = {service.name for service in answers[0].list_services_response.service}
    assert names == {ENCODER, SHAPES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert answers[1].file_descriptor_response.file_descriptor_proto
