"""Who gets through the Envoys: by certificate, by identity, and while certificates change."""

import asyncio
import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh_chassis.channels import ChannelSecurity, open_channel
from lensmesh_chassis.process.server import Runtime, running
from lensmesh_chassis.settings import ServiceSettings
from lensmesh_client import Client
from lensmesh_local.sidecars.certificates import Authority
from lensmesh_local.sidecars.model import HostPort
from tests.sidecars.conftest import Pair
from tests.sidecars.envoys import LOCAL, Envoys, shown_serial
from tests.sidecars.fakes import Replica, Router
from tests.support.waiting import until

TEXTS = encoder_pb2.EncodeTextsRequest(texts=["a"])
HOUR = datetime.timedelta(hours=1)


async def refused(place: HostPort, security: ChannelSecurity | None) -> str:
    """What a caller is told that does not get through, "" if it does."""
    async with open_channel(str(place), security=security, services=[], instrument=False) as channel:
        call = encoder_pb2_grpc.EncoderServiceStub(channel).EncodeTexts(TEXTS, timeout=60)
        code = await call.code()
        assert code in {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
        return "" if code is grpc.StatusCode.OK else (await call.details() or "no details")


async def test_only_the_router_gets_through_to_an_encoder(pair: Pair) -> None:
    envoys, place = pair.envoys, pair.inbounds[0]
    assert await refused(place, envoys.shows("caller", envoys.trust.id("router"))) == ""
    calls = sum(pair.calls)
    trusted = str(envoys.certificate("caller").ca)
    for name in ("encoder", "caption", "search", "edge", "client"):
        assert await refused(place, envoys.shows("caller", envoys.trust.id(name))), name
    elsewhere = "spiffe://elsewhere/ns/lensmesh/sa/router"
    assert await refused(place, envoys.shows("caller", elsewhere))
    assert await refused(place, envoys.shows("caller", ""))
    assert await refused(place, ChannelSecurity(ca_file=trusted))
    assert "Socket closed" in await refused(place, None)
    stranger = Authority("somebody else").issue(envoys.folder / "stranger", envoys.trust.id("router"))
    shown = ChannelSecurity(trusted, str(stranger.certificate), str(stranger.key))
    assert await refused(place, shown)
    assert sum(pair.calls) == calls


async def test_a_certificate_that_has_expired_does_not_get_through(pair: Pair) -> None:
    """gRPC's bare channel: the mesh's own refuses such a file before it is shown to anybody."""
    files = pair.envoys.certificate("late", pair.envoys.trust.id("router"), life=-HOUR)
    credentials = grpc.ssl_channel_credentials(
        files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
    )
    async with grpc.aio.secure_channel(str(pair.inbounds[0]), credentials) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            await encoder_pb2_grpc.EncoderServiceStub(channel).EncodeTexts(TEXTS, timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert sum(pair.calls) == 0


async def test_a_replica_of_another_identity_gets_no_calls(envoys: Envoys) -> None:
    """Who answers is checked as well as who calls: an address taken over by something else is worth nothing."""
    replicas: list[Replica] = []

    def build(runtime: Runtime[ServiceSettings]) -> Replica:
        replicas.append(Replica(runtime))
        return replicas[-1]

    settings = ServiceSettings(listen=f"{LOCAL}:0")
    async with running(settings, build, "fake") as one, running(settings, build, "fake") as other:
        wrong = await envoys.inbound("encoder", one.address, "e1", envoys.trust.id("caption"))
        right = await envoys.inbound("encoder", other.address, "e2")
        egress = await envoys.egress("encoder", wrong, right)
        await envoys.until_healthy("router", "egress_encoder", 1)
        await envoys.until_answered(egress)
        async with open_channel(str(egress), services=[], instrument=False) as channel:
            for _ in range(20):
                await encoder_pb2_grpc.EncoderServiceStub(channel).EncodeTexts(TEXTS, timeout=60)
    assert [replica.calls for replica in replicas] == [0, 20]


@asynccontextmanager
async def calling(pair: Pair) -> AsyncIterator[list[int]]:
    """Unary calls without pause, one after another in four tasks; any failure is raised when this is left."""
    done = [0]

    async def call() -> None:
        while True:
            await pair.stub.EncodeTexts(TEXTS, timeout=60)
            done[0] += 1

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call()) for _ in range(4)]
        yield done
        for task in tasks:
            task.cancel()


async def test_new_certificates_are_picked_up_with_no_failed_call(pair: Pair) -> None:
    envoys = pair.envoys
    caller = envoys.shows("caller", envoys.trust.id("router"))

    async def serial(place: HostPort) -> int:
        return await asyncio.to_thread(shown_serial, place, caller)

    async with calling(pair) as done:
        before, loaded_before = [await serial(place) for place in pair.inbounds], await _loaded(envoys)
        for name in ("encoder-1", "encoder-2"):
            envoys.certificate(name, envoys.trust.id("encoder"))
        envoys.certificate("router")

        async def changed() -> bool:
            return all([await serial(place) != old for place, old in zip(pair.inbounds, before, strict=True)])

        await until(changed, "both replicas show their new certificates")

        async def loaded() -> bool:
            return await _loaded(envoys) > loaded_before

        await until(loaded, "the router's Envoy has its new certificate")
        goal = done[0] + 100
        await until(lambda: _reached(done, goal), "calls go on")
    assert sum(pair.calls) >= goal


async def _loaded(envoys: Envoys) -> int:
    """How often the router's Envoy has loaded certificates to show."""
    page = await envoys.page("router", "/stats?filter=ssl_context_update_by_sds")
    return sum(int(line.rpartition(" ")[2]) for line in page.splitlines() if "egress_encoder" in line)


async def test_an_authority_takes_over_from_another_with_no_failed_call(pair: Pair) -> None:
    """First everybody trusts both, then everybody shows the new one's certificates, then the old one is forgotten."""
    envoys, old, new = pair.envoys, pair.envoys.authority, Authority("the next one")
    names = {"encoder-1": "encoder", "encoder-2": "encoder", "router": "router"}

    def issue(signer: Authority, also: bytes) -> None:
        for name, service in names.items():
            signer.issue(envoys.folder / "tls" / name, envoys.trust.id(service), also_trust=also)

    async def gets_through(signer: Authority) -> bool:
        files = signer.issue(envoys.folder / "tls" / "caller", envoys.trust.id("router"), also_trust=old.pem + new.pem)
        shown = ChannelSecurity(str(files.ca), str(files.certificate), str(files.key))
        return not any([await refused(place, shown) for place in pair.inbounds])

    async with calling(pair) as done:
        issue(old, new.pem)
        await until(lambda: gets_through(new), "the new authority is trusted")
        issue(new, old.pem)
        goal = done[0] + 100
        await until(lambda: _reached(done, goal), "calls go on")
        issue(new, b"")

        async def old_is_forgotten() -> bool:
            return not await gets_through(old)

        await until(old_is_forgotten, "the old authority is trusted no more")
        goal = done[0] + 100
        await until(lambda: _reached(done, goal), "calls go on")


async def _reached(done: list[int], goal: int) -> bool:
    return done[0] >= goal


async def test_the_edge_takes_tls_and_shows_its_own_identity_inside(envoys: Envoys) -> None:
    """Callers from outside have no certificate; routers let in nobody but the edge and known clients."""
    routers: list[Router] = []

    def build(runtime: Runtime[ServiceSettings]) -> Router:
        routers.append(Router())
        return routers[-1]

    settings = ServiceSettings(listen=f"{LOCAL}:0")
    async with running(settings, build, "fake") as one, running(settings, build, "fake") as other:
        first = await envoys.inbound("router", one.address, "r1")
        second = await envoys.inbound("router", other.address, "r2")
        edge = await envoys.edge(first, second)
        await envoys.until_healthy("edge", "edge", 2)
        outside = ChannelSecurity(ca_file=str(envoys.certificate("anybody").ca))
        async with open_channel(str(edge), security=outside, instrument=False) as channel:
            stub = router_pb2_grpc.RouterServiceStub(channel)
            await asyncio.gather(*(stub.GetStatus(router_pb2.GetStatusRequest(), timeout=60) for _ in range(40)))
        assert [router.calls > 0 for router in routers] == [True, True]
        async with Client(str(edge), security=outside, timeout_s=60) as client:
            await client.status()
        assert await refused(edge, None)
        assert await refused(first, outside)
