"""Channels: retried, balanced, limited, with deadlines and request ids passed on."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis import contract
from lensmesh_chassis.channels import open_channel, remaining_s, service_config
from lensmesh_chassis.errors import DeadlineExceeded, InvalidInput, Overloaded, Unavailable
from lensmesh_chassis.process.addresses import parse_address
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.request_id import request_id
from lensmesh_chassis.rpc.status import from_rpc_error
from tests.chassis.conftest import Serve, Served
from tests.chassis.name_server import name_server
from tests.support.every_shape import ENCODER, METHODS, call, finish
from tests.support.tcp import tcp_server

PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
AWAY = Unavailable(Reason.STORE_UNAVAILABLE, "away for a moment")


def stub(channel: grpc.aio.Channel) -> "encoder_pb2_grpc.EncoderServiceAsyncStub":
    return encoder_pb2_grpc.EncoderServiceStub(channel)


def retried(config: str) -> set[str]:
    methods = json.loads(config).get("methodConfig", [{"name": []}])[0]["name"]
    return {f"{one['service']}/{one['method']}" for one in methods}


def test_what_may_be_repeated_is_retried_by_contract() -> None:
    """Every method declares itself. Streams of requests are resumed by who sends them, with a patience of their own."""
    expected = {
        f"{service.full_name}/{method.name}"
        for service in contract.services()
        for method in service.methods
        if not method.client_streaming
    }
    assert retried(service_config()) == expected
    assert f"{ENCODER}/EncodeImages" in expected
    assert f"{ENCODER}/EncodeStream" not in expected
    only = search_pb2.DESCRIPTOR.services_by_name["SearchService"]
    assert retried(service_config([only])) == {f"{only.full_name}/{method.name}" for method in only.methods}
    assert retried(service_config([])) == set()


def test_the_service_config_balances_and_checks_health_when_asked() -> None:
    config = json.loads(service_config(health_check=ENCODER))
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
    assert config["healthCheckConfig"] == {"serviceName": ENCODER}
    assert "healthCheckConfig" not in json.loads(service_config())


async def test_a_flaky_service_is_asked_again(served: Served) -> None:
    served.app.encoder.faults = [AWAY, AWAY]
    answer = await stub(served.channel).GetInfo(encoder_pb2.GetInfoRequest(), timeout=30)
    assert answer.server.instance == "test"
    assert served.app.encoder.calls == 3


async def test_a_connection_may_take_a_while_to_open(served: Served) -> None:
    """Over a long way with TLS, or to a process that has much to do: a call waits for it, and is not refused."""
    address = parse_address(served.server.addresses[0])

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1)
        there, back = await asyncio.open_connection(address.host, address.port)

        async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65_536):
                    sink.write(data)
                    await sink.drain()
            sink.close()

        async with asyncio.TaskGroup() as both:
            both.create_task(carry(reader, back))
            both.create_task(carry(there, writer))
        for end in (back, writer):
            with contextlib.suppress(OSError):
                await end.wait_closed()

    async with tcp_server(slow) as port, open_channel(f"127.0.0.1:{port}") as channel:
        # No contract lets this method be sent again, so nothing hides a failure.
        assert await finish(call(channel, "UnaryUnary", timeout=30)) == ["a"]


async def test_a_large_request_is_retried_too(served: Served) -> None:
    """gRPC gives up retrying requests above 256 KiB by default."""
    served.app.encoder.faults = [AWAY]
    request = encoder_pb2.EncodeImagesRequest()
    request.images.add(content=bytes(4_000_000))
    await stub(served.channel).EncodeImages(request, timeout=30)
    assert served.app.encoder.calls == 2


async def test_retries_end(served: Served) -> None:
    served.app.encoder.faults = [AWAY] * 10
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(served.channel).GetInfo(encoder_pb2.GetInfoRequest(), timeout=30)
    assert from_rpc_error(caught.value).reason is Reason.STORE_UNAVAILABLE
    assert served.app.encoder.calls == 4


@pytest.mark.parametrize(
    "fault",
    [InvalidInput(Reason.NO_ITEMS, "no items"), Overloaded(Reason.OVERLOADED, "full"), ValueError("a bug")],
)
async def test_other_failures_are_not_repeated(served: Served, fault: Exception) -> None:
    served.app.encoder.faults = [fault]
    with pytest.raises(grpc.aio.AioRpcError):
        await stub(served.channel).GetInfo(encoder_pb2.GetInfoRequest(), timeout=30)
    assert served.app.encoder.calls == 1


async def test_methods_that_no_contract_declares_are_not_repeated(served: Served) -> None:
    served.app.shapes.fault = AWAY
    with pytest.raises(grpc.aio.AioRpcError):
        await finish(call(served.channel, "UnaryUnary"))
    assert len(served.app.shapes.request_ids) == 1


async def test_calls_go_round_all_addresses(serve: Serve) -> None:
    async with serve() as one, serve() as two:
        target = f"ipv4:{one.server.address},{two.server.address}"
        async with open_channel(target) as channel:
            async with asyncio.timeout(30):
                while not (one.app.encoder.calls and two.app.encoder.calls):
                    await stub(channel).GetInfo(encoder_pb2.GetInfoRequest())


@pytest.mark.parametrize("prefix", ["", "dns:///"])
async def test_targets_by_name(served: Served, prefix: str) -> None:
    port = served.server.address.rpartition(":")[2]
    async with open_channel(f"{prefix}localhost:{port}") as channel:
        assert await finish(call(channel, "UnaryUnary", timeout=30)) == ["a"]


async def test_nobody_there_is_unavailable() -> None:
    async with open_channel("127.0.0.1:1") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await finish(call(channel, "UnaryUnary", timeout=30))
    assert isinstance(from_rpc_error(caught.value), Unavailable)


async def test_a_fresh_channel_waits_for_no_other_one_s_failures(serve: Serve) -> None:
    """No contract lets this method be sent again, so nothing hides a failure."""
    async with serve() as gone:
        address = gone.server.address
    async with open_channel(address) as older:
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError):
                await finish(call(older, "UnaryUnary", timeout=30))
        async with serve(listen=address) as served:
            assert await finish(call(served.channel, "UnaryUnary", timeout=30)) == ["a"]


@pytest.mark.parametrize("proxied", [False, True])
async def test_no_proxy_stands_before_this_machine(
    served: Served, monkeypatch: pytest.MonkeyPatch, proxied: bool
) -> None:
    for variable in PROXIES:
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    port = parse_address(served.server.address).port
    for target in (f"127.0.0.1:{port}", f"localhost:{port}", f"ipv4:127.0.0.1:{port},127.0.0.1:{port}"):
        async with open_channel(target, proxied=proxied) as channel:
            assert await finish(call(channel, "UnaryUnary", timeout=30)) == ["a"]


async def test_a_proxy_is_for_clients_and_not_for_peers(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    for variable in ("no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    async with tcp_server(refuse) as port, name_server("127.0.0.1") as (_, at), serve() as served:
        for variable in PROXIES:
            monkeypatch.setenv(variable, f"http://127.0.0.1:{port}")
        name = f"encoder.test:{parse_address(served.server.address).port}"
        async with open_channel(f"dns://{at}/{name}") as channel:
            assert await finish(call(channel, "UnaryUnary", timeout=30)) == ["a"]
        assert asked == []
        async with open_channel(f"dns://{at}/{name}", proxied=True) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await finish(call(channel, "UnaryUnary", timeout=30))
    assert asked[0].startswith(f"CONNECT {name} ".encode())


LIMIT = 100_000


async def test_a_message_a_little_too_large_gets_a_typed_answer(serve: Serve) -> None:
    async with serve(max_message_bytes=LIMIT) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await finish(call(served.channel, "UnaryUnary", ["x" * (LIMIT + LIMIT // 5)]))
    error = from_rpc_error(caught.value)
    assert isinstance(error, InvalidInput)
    assert error.reason is Reason.MESSAGE_TOO_LARGE


@pytest.mark.parametrize("method", METHODS)
async def test_a_message_far_too_large_is_explained(serve: Serve, method: str) -> None:
    async with serve(max_message_bytes=LIMIT) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await finish(call(served.channel, method, ["x" * (2 * LIMIT)]))
        error = from_rpc_error(caught.value)
        assert isinstance(error, Overloaded)
        assert error.reason is Reason.MESSAGE_TOO_LARGE
        assert "max_message_bytes" in error.message
        assert await finish(call(served.channel, "UnaryUnary")) == ["a"]


async def test_a_client_with_a_smaller_limit_explains_it_as_well(serve: Serve) -> None:
    async with serve() as served, open_channel(served.server.address, max_message_bytes=LIMIT) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await finish(call(channel, "UnaryUnary", ["x" * (2 * LIMIT)]))
        assert from_rpc_error(caught.value).reason is Reason.MESSAGE_TOO_LARGE


@pytest.mark.parametrize("method", METHODS)
async def test_the_request_id_is_passed_on(served: Served, method: str) -> None:
    request_id.set("from-outside")
    await finish(call(served.channel, method))
    assert set(served.app.shapes.request_ids) == {"from-outside"}


async def test_an_explicit_request_id_wins(served: Served) -> None:
    request_id.set("from-outside")
    await finish(call(served.channel, "UnaryUnary", metadata=(("x-request-id", "mine"),)))
    assert served.app.shapes.request_ids == ["mine"]


async def test_a_deadline_that_is_too_short_ends_the_call(served: Served) -> None:
    served.app.shapes.hold = asyncio.Event()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await finish(call(served.channel, "UnaryUnary", timeout=0.2))
    assert isinstance(from_rpc_error(caught.value), DeadlineExceeded)


class Context:
    """As much of a context as remaining_s looks at."""

    def __init__(self, left: float | None) -> None:
        self.time_remaining: Callable[[], Any] = lambda: left


@pytest.mark.parametrize(("left", "low", "high"), [(None, 30, 30), (10.0, 9.5, 10), (0.0, 0, 0.01), (0.005, 0, 0.01)])
def test_what_is_left_of_the_deadline(left: float | None, low: float, high: float) -> None:
    assert low <= remaining_s(Context(left), 30) <= high


async def test_the_deadline_arrives(served: Served) -> None:
    await finish(call(served.channel, "UnaryUnary", timeout=50))
    await finish(call(served.channel, "UnaryUnary"))
    left, none = served.app.shapes.remaining
    assert left is not None
    assert 0 < left <= 51
    assert none is None
