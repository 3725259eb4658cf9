"""The Envoy at the edge: strangers who say nothing, callers who stay, and how often a call is sent."""

import asyncio
import contextlib
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterator

import grpc
import httpx2
import pytest

from http_svc.app import HttpApp
from http_svc.serving.listeners import HttpListeners
from http_svc.settings import HttpSettings
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.process.server import Runtime, running
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.settings import ServiceSettings
from lensmesh_chassis.tls.credentials import ChannelSecurity
from lensmesh_local.sidecars.model import HostPort
from tests.sidecars.envoys import LOCAL, PATIENCE_S, Envoys
from tests.sidecars.fakes import Router
from tests.support.waiting import until

STATUS = router_pb2.GetStatusRequest()


@pytest.fixture
async def routers(envoys: Envoys) -> AsyncIterator[tuple[list[Router], list[HostPort]]]:
    """Two fakes, each behind its Envoy, and where those listen."""
    made: list[Router] = []

    def build(runtime: Runtime[ServiceSettings]) -> Router:
        made.append(Router())
        return made[-1]

    settings = ServiceSettings(listen=f"{LOCAL}:0")
    async with running(settings, build, "fake") as one, running(settings, build, "fake") as other:
        yield made, [await envoys.inbound("router", each.address, name) for each, name in ((one, "r1"), (other, "r2"))]


def outside(envoys: Envoys) -> ChannelSecurity:
    """A caller with no certificate."""
    return ChannelSecurity(ca_file=str(envoys.certificate("anybody").ca))


async def counted(envoys: Envoys, figure: str) -> int:
    """A figure of the edge, summed over its workers."""
    lines = (await envoys.page("edge", f"/stats?filter={figure}")).splitlines()
    return sum(int(line.rpartition(" ")[2]) for line in lines if figure in line and "worker" not in line)


def page(address: str) -> bytes:
    """Blocks."""
    with urllib.request.urlopen(address, timeout=PATIENCE_S) as answer:
        return bytes(answer.read())


async def test_silent_connections_hinder_no_probe_and_end(envoys: Envoys) -> None:
    """They use up what strangers may have, and have it for as long as a handshake may take."""
    metrics = envoys.free()
    edge = await envoys.edge(envoys.free(), metrics=metrics, max_connections=2)
    connections = f"{LOCAL}_{edge.port}.downstream_cx_"

    async def empty() -> bool:
        return await counted(envoys, connections + "total") > 0 == await counted(envoys, connections + "active")

    await until(empty, "who looked whether it listens is gone")

    async def full() -> bool:
        return await counted(envoys, connections + "active") == 2

    with contextlib.ExitStack() as opened:

        def connect() -> socket.socket:
            return opened.enter_context(socket.create_connection((edge.host, edge.port), timeout=PATIENCE_S))

        silent = [connect(), connect()]
        await until(full, "both are let in")
        assert await asyncio.to_thread(connect().recv, 1) == b""
        assert await counted(envoys, "downstream_global_cx_overflow") == 1
        assert await asyncio.to_thread(page, f"http://{metrics}/ready") == b"LIVE\n"
        for each in silent:
            assert await asyncio.to_thread(each.recv, 1) == b""
    assert await counted(envoys, "downstream_cx_transport_socket_connect_timeout") == 2


async def test_callers_move_on_with_no_failed_call(
    envoys: Envoys, routers: tuple[list[Router], list[HostPort]]
) -> None:
    """Calls go to a new connection each second; a stream stays where it began for as long as it likes."""
    edge = await envoys.edge(*routers[1], age_s=1)
    await envoys.until_healthy("edge", "edge", 2)
    async with open_channel(str(edge), security=outside(envoys), services=[], instrument=False) as channel:
        stub = router_pb2_grpc.RouterServiceStub(channel)
        stream = stub.IngestStream(timeout=120)

        async def passes() -> bool:
            await stream.write(router_pb2.IngestStreamRequest())
            assert isinstance(await stream.read(), router_pb2.IngestStreamResponse)
            await asyncio.gather(*(stub.GetStatus(STATUS, timeout=60) for _ in range(4)))
            # More than the second of the first and the 5 that Envoy takes new calls on it after that.
            return await counted(envoys, "downstream_cx_max_duration_reached") >= 8

        await until(passes, "connections come of age")
        await stream.done_writing()
        assert await stream.read() == grpc.aio.EOF
        assert await stream.code() is grpc.StatusCode.OK


async def test_what_a_router_answered_is_not_sent_again(
    envoys: Envoys, routers: tuple[list[Router], list[HostPort]]
) -> None:
    """The caller's channel tries again. If every hop did, one call would become hundreds."""
    fakes, places = routers
    edge = await envoys.edge(*places)
    await envoys.until_healthy("edge", "edge", 2)
    async with open_channel(str(edge), security=outside(envoys), services=[], instrument=False) as channel:
        stub = router_pb2_grpc.RouterServiceStub(channel)
        await stub.GetStatus(STATUS, timeout=60)
        for fake in fakes:
            fake.calls, fake.fault = 0, Unavailable(Reason.DRAINING, "away")
        with pytest.raises(grpc.RpcError) as caught:
            await stub.GetStatus(STATUS, timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert sum(fake.calls for fake in fakes) == 1


async def test_the_front_door_is_reached_and_reaches_routers_by_mutual_tls(
    envoys: Envoys, routers: tuple[list[Router], list[HostPort]]
) -> None:
    """Through three Envoys: at the edge, beside the door both ways, and before a router."""
    fakes, places = routers
    egress = envoys.free()
    # Names of the world reach it, although it listens on the loopback.
    settings = HttpSettings(
        listen=f"{LOCAL}:0", router_target=str(egress), hosts="*", trusted_proxies=LOCAL, client_rate=1000
    )
    async with running(settings, HttpApp, "http", listeners=HttpListeners) as door:
        place = await envoys.door(door.address, egress, *places)
        edge = await envoys.edge(*places, doors=(place,))
        await envoys.until_healthy("edge", "doors", 1)
        await envoys.until_healthy("http", "egress_router", 2)
        context = ssl.create_default_context(cafile=outside(envoys).ca_file)
        async with httpx2.AsyncClient(base_url=f"https://{edge}", verify=context, timeout=PATIENCE_S) as browser:
            headers = {"host": "mesh.example.org", "origin": "https://mesh.example.org"}
            path = "/lensmesh.router.v1.RouterService/GetStatus"

            async def answered() -> bool:
                return bool((await browser.post(path, json={}, headers=headers)).status_code == 200)

            await until(answered, "a call by HTTP reaches a router")
        assert sum(fake.calls for fake in fakes) >= 1
        # Nobody gets to the door past the edge.
        stranger = ssl.create_default_context(cafile=outside(envoys).ca_file)
        async with httpx2.AsyncClient(base_url=f"https://{place}", verify=stranger, timeout=PATIENCE_S) as client:
            # By TLS 1.3 a client learns of it after the handshake.
            with pytest.raises((httpx2.TransportError, ssl.SSLError)):
                await client.get("/readyz")
