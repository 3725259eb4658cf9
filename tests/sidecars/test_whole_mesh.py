"""A whole mesh behind Envoys: images pass by mutual TLS, and one of two Encoders may be killed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from PIL import Image
from pydantic import SecretStr

from caption_svc.app import CaptionApp
from caption_svc.settings import CaptionSettings
from lensmesh_chassis.process.server import running
from lensmesh_client import Client, IngestItem, LensmeshError
from lensmesh_local.process import Managed
from lensmesh_local.sidecars.model import HostPort
from router_svc.app import RouterApp
from router_svc.settings import RouterSettings
from search_svc.app import SearchApp
from search_svc.settings import SearchSettings
from tests.sidecars.envoys import LOCAL, Envoys
from tests.support.postgres import PostgresForTests
from tests.support.processes import service
from tests.support.waiting import until

FREE = f"{LOCAL}:0"


class Mesh:
    """Two Encoders as processes, the rest in this one; an Envoy before each."""

    def __init__(self, envoys: Envoys, router: HostPort, encoders: list[Managed]) -> None:
        self.envoys, self.router, self.encoders = envoys, router, encoders

    def client(self) -> Client:
        """With the identity of a client that routers let in."""
        return Client(str(self.router), security=self.envoys.shows("client"), timeout_s=120)


@pytest.fixture
async def mesh(envoys: Envoys, tmp_path: Path) -> AsyncIterator[Mesh]:
    database = PostgresForTests()
    async with AsyncExitStack() as stack:
        stack.callback(database.remove)
        encoders = [service("encoder", tmp_path / f"encoder-{number}", MODEL="mock") for number in (1, 2)]
        for encoder in encoders:
            stack.push_async_callback(encoder.stop)
        await asyncio.gather(*(encoder.start() for encoder in encoders))
        caption = await stack.enter_async_context(
            running(CaptionSettings(listen=FREE, model="mock"), CaptionApp, "caption")
        )
        search = await stack.enter_async_context(
            running(SearchSettings(listen=FREE, store_url=SecretStr(database.url)), SearchApp, "search")
        )
        replicas = {
            "encoder": tuple(
                [
                    await envoys.inbound("encoder", str(encoder.ready["addresses"][0]), f"e{number}")
                    for number, encoder in enumerate(encoders)
                ]
            ),
            "caption": (await envoys.inbound("caption", caption.address),),
            "search": (await envoys.inbound("search", search.address),),
        }
        egress = {name: envoys.free() for name in replicas}
        settings = RouterSettings(
            listen=FREE,
            encoder_targets=str(egress["encoder"]),
            caption_targets=str(egress["caption"]),
            search_targets=str(egress["search"]),
        )
        router = await stack.enter_async_context(running(settings, RouterApp, "router"))
        place = await envoys.router(router.address, egress, replicas)
        await envoys.until_healthy("router", "egress_encoder", 2)
        await envoys.until_healthy("router", "egress_search", 1)
        await envoys.until_healthy("router", "egress_caption", 1)
        made = Mesh(envoys, place, encoders)

        async def serves() -> bool:
            return (await client.status()).serving

        # The Router came before its Envoy, and has met nobody yet.
        async with made.client() as client:
            await until(serves, "the Router has met its neighbours")
        yield made


def draw(folder: Path, count: int) -> list[Path]:
    """Small images, no two alike."""
    folder.mkdir()
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.new("RGB", (24, 16), (number % 256, number // 256, 9)).save(path)
    return paths


async def served(mesh: Mesh) -> list[int]:
    """Calls that went to each Encoder."""
    hosts = await mesh.envoys.hosts("router", "egress_encoder")
    return [sum(int(stat.get("value", 0)) for stat in host["stats"] if stat["name"] == "rq_total") for host in hosts]


async def work_through(mesh: Mesh, folder: Path, meanwhile: Callable[[], Awaitable[None]]) -> None:
    """An ingest of 400 and single calls beside it, with something happening to the Encoders; nothing may fail."""
    paths = draw(folder / "images", 400)
    room = asyncio.Semaphore(100)
    embedded = 0

    async def items() -> AsyncIterator[IngestItem]:
        """The rest comes when it has happened."""
        for path in paths:
            await room.acquire()
            yield IngestItem(path)

    async with mesh.client() as client, asyncio.TaskGroup() as group:

        async def embed() -> None:
            """Single calls without pause; each failure ends the test."""
            nonlocal embedded
            while True:
                await client.embed(texts=[f"text {embedded}"])
                embedded += 1

        async def happen() -> None:
            await until(both_work, "both Encoders are at work")
            await meanwhile()
            for _ in paths:
                room.release()

        async def both_work() -> bool:
            return min(await served(mesh)) > 0

        callers = [group.create_task(embed()) for _ in range(4)]
        happening = group.create_task(happen())
        results = [result async for result in client.ingest_many(items(), collection="work")]
        await happening
        goal = embedded + 50

        async def reached() -> bool:
            return embedded >= goal

        await until(reached, "calls go on")
        for caller in callers:
            caller.cancel()
        assert [result.error for result in results if result.error] == []
        assert sorted(result.index for result in results) == list(range(400))
        hits = (await client.search("anything", collection="work", limit=1000, exact=True)).hits
        assert len({hit.id for hit in hits}) == 400


async def test_kill_9_of_one_of_two_encoders_costs_no_call(mesh: Mesh, tmp_path: Path) -> None:
    async def kill() -> None:
        pid = mesh.encoders[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    await work_through(mesh, tmp_path, kill)
    # Started again, it gets calls again.
    await mesh.envoys.until_healthy("router", "egress_encoder", 2)


async def test_encoders_are_replaced_one_after_the_other(mesh: Mesh, tmp_path: Path) -> None:
    """As a rolling update does. Envoy takes a draining one out by its health, and sends on what it refuses."""

    async def replace() -> None:
        for encoder in mesh.encoders:
            await encoder.stop()
            await encoder.start()
            await mesh.envoys.until_healthy("router", "egress_encoder", 2)

    await work_through(mesh, tmp_path, replace)


async def test_a_router_that_meets_a_stranger(mesh: Mesh) -> None:
    """Strangers get no further than the handshake, and are told what it may be."""
    for identity in (mesh.envoys.trust.id("encoder"), ""):
        stranger = mesh.envoys.shows("stranger", identity)
        async with Client(str(mesh.router), security=stranger, timeout_s=60) as client:
            with pytest.raises(LensmeshError, match="It may refuse the certificate"):
                await client.status()
    async with mesh.client() as client:
        assert (await client.status()).serving
