"""Processes that are killed, stopped or hang while images come in: every item is stored once and answered once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest
from pydantic import SecretStr

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import KEEPALIVE_SECONDS, OWN_CONNECTIONS
from lensmesh_chassis.process.exit import GIVEN_UP
from lensmesh_chassis.process.server import running
from lensmesh_client import Captions, Client, IngestItem
from lensmesh_inference.watchdog import LOOP
from search_svc.app import SearchApp
from search_svc.settings import SearchSettings
from tests.faults.helpers import (
    AT_ONCE_S,
    NOT_SERVING,
    SERVING,
    Faulty,
    heard_of,
    image_files,
    router_for,
    started,
    until,
)
from tests.support.postgres import PostgresForTests

COUNT = 160
HANG_S = 1.0
# From the moment when a batch is overdue to NOT_SERVING.
TOLD_S = HANG_S + 5.0
RESTART_S = 30.0


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    server = PostgresForTests()
    yield server.url
    server.remove()


class Replicas:
    """Two encoders and two captioners; the first of each is the one that suffers."""

    def __init__(self, folder: Path) -> None:
        self.encoders = [Faulty("encoder", folder / f"encoder-{n}", **SETTINGS) for n in (1, 2)]
        self.captioners = [Faulty("caption", folder / f"caption-{n}", **SETTINGS) for n in (1, 2)]
        self.all = [*self.encoders, *self.captioners]
        self.victims = [self.encoders[0], self.captioners[0]]


SETTINGS = {"HANG_SECONDS": str(HANG_S), "MAX_BATCH": "4"}


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[Replicas]:
    made = Replicas(tmp_path)
    async with started(*made.all):
        yield made


def kill(victim: Faulty) -> None:
    assert victim.process.pid
    os.kill(victim.process.pid, signal.SIGKILL)


def stop(victim: Faulty) -> None:
    assert victim.process.pid
    os.kill(victim.process.pid, signal.SIGSTOP)


def hang(victim: Faulty) -> None:
    victim.fault("hang")


async def ids_of(target: str, collection: str) -> list[str]:
    """What the store holds, each as often as it is listed."""
    async with grpc.aio.insecure_channel(target, [OWN_CONNECTIONS]) as channel:
        stub = search_pb2_grpc.SearchServiceStub(channel)
        request = search_pb2.ListItemsRequest(collection=collection, page_size=500)
        page = await stub.ListItems(request, timeout=120)
        assert not page.next_page_token
        return [item.id for item in page.items]


@pytest.mark.parametrize("strike", [kill, hang, stop])
async def test_one_of_two_goes_in_the_middle_of_its_batches(
    strike: object, replicas: Replicas, database: str, tmp_path: Path
) -> None:
    name = strike.__name__  # type: ignore[attr-defined]
    before = {victim.process.spec.name: victim.process.pid for victim in replicas.victims}
    for service in replicas.all:
        # Long enough that there is a batch in the device whenever one looks.
        service.fault("slow 0.1")
    search = running(SearchSettings(listen="127.0.0.1:0", store_url=SecretStr(database)), SearchApp, "search")
    items = [IngestItem(path) for path in image_files(tmp_path / "images", COUNT)]
    results = []
    async with search as store, router_for(replicas.all, search_targets=store.address, batch_items=8) as router:
        async with Client(router.address, timeout_s=600) as client:
            stream = client.ingest_many(items, collection=name, captions=Captions.REQUIRED, patience_s=600)
            async for result in stream:
                results.append(result)
                if len(results) == COUNT // 8:
                    for victim in replicas.victims:
                        strike(victim)  # type: ignore[operator]
        assert [result.error for result in results if result.error] == []
        assert sorted(result.index for result in results) == list(range(COUNT))
        ids = await ids_of(store.address, name)
        assert len(ids) == COUNT
        assert set(ids) == {result.id for result in results}
        if name == "stop":
            for victim in replicas.victims:
                finds = partial(router.finds, victim, router_pb2.HEALTH_UNREACHABLE)
                await until(finds, AT_ONCE_S, "GetStatus says unreachable")
                assert victim.process.pid
                os.kill(victim.process.pid, signal.SIGCONT)
        for victim in replicas.victims:
            await until(lambda victim=victim: victim.says(SERVING), RESTART_S, "it serves again")  # type: ignore[misc]
            await until(partial(router.finds, victim, router_pb2.HEALTH_SERVING), AT_ONCE_S, "GetStatus says so")
    for victim in replicas.victims:
        # One that was only stopped has not hung, whatever the clock says.
        same = victim.process.pid == before[victim.process.spec.name]
        assert same == (name == "stop"), victim.log
        assert victim.process.restarts == (name != "stop")
        if name == "hang":
            assert f"with code {GIVEN_UP}" in victim.said[0]


@pytest.mark.parametrize("kind", ["encoder", "caption"])
async def test_a_hung_batch_is_told_and_ends_the_process(kind: str, tmp_path: Path) -> None:
    service = Faulty(kind, tmp_path / kind, HANG_SECONDS=str(HANG_S), CANARY_SECONDS="0.2")
    async with started(service), router_for([service]) as router, heard_of(service) as heard:
        first = service.process.pid
        service.fault("hang")
        await until(lambda: NOT_SERVING in heard, TOLD_S, "it is told")
        assert await router.finds(service, router_pb2.HEALTH_SERVING) is False
        await until(lambda: service.said, TOLD_S, "the process ends")
        assert service.said[0].endswith(f"with code {GIVEN_UP}; it is started again in 0.5 s")
        assert "mock hangs: a batch of 1 has been in the device for 1.5 s, " in service.log
        await until(lambda: service.says(SERVING), RESTART_S, "it serves again")
        assert service.process.pid != first
        await until(partial(router.finds, service, router_pb2.HEALTH_SERVING), AT_ONCE_S, "GetStatus says so")


async def test_a_lost_device_ends_the_process(tmp_path: Path) -> None:
    service = Faulty("encoder", tmp_path / "encoder", CANARY_SECONDS="0.2")
    async with started(service), heard_of(service) as heard:
        service.fault("lost")
        await until(lambda: NOT_SERVING in heard, TOLD_S, "it is told")
        await until(lambda: service.said, TOLD_S, "the process ends")
        assert f"with code {GIVEN_UP}" in service.said[0]
        assert "mock has no device left" in service.log
        await until(lambda: service.says(SERVING), RESTART_S, "it serves again")


async def test_a_blocked_event_loop_ends_the_process(tmp_path: Path) -> None:
    service = Faulty("encoder", tmp_path / "encoder", HANG_SECONDS="0.5")
    async with started(service):
        service.fault("block")
        await until(lambda: service.said, LOOP * 0.5 + TOLD_S, "the process ends")
        assert f"with code {GIVEN_UP}" in service.said[0]
        assert "the event loop has answered nothing for 3.5 s" in service.log
        # The log shows where.
        assert "block_when_told" in service.log
        await until(lambda: service.says(SERVING), RESTART_S, "it serves again")


async def test_a_call_in_a_stopped_process_goes_to_another(tmp_path: Path) -> None:
    """As the keepalive ends the connection, and no sooner: the call has no deadline and nothing else ends it."""
    services = [Faulty("encoder", tmp_path / f"encoder-{n}") for n in (1, 2)]
    async with started(*services), router_for(services, refresh_seconds=1) as router:
        for service in services:
            service.fault("slow 0.5")
        stub = encoder_pb2_grpc.EncoderServiceStub(router.channel)
        calls = [
            asyncio.ensure_future(stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=[f"text {n}"])))
            for n in range(8)
        ]
        await asyncio.sleep(0)
        stop(services[0])
        finds = partial(router.finds, services[0], router_pb2.HEALTH_UNREACHABLE, "no answer within")
        await until(finds, AT_ONCE_S, "GetStatus says unreachable")
        async with asyncio.timeout(5 * KEEPALIVE_SECONDS):
            answers = await asyncio.gather(*calls)
        assert all(answer.results[0].HasField("embedding") for answer in answers)
        # Now that it is known, work goes past it.
        async with asyncio.timeout(KEEPALIVE_SECONDS):
            for n in range(8):
                await stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=[f"later {n}"]))
        pid = services[0].process.pid
        assert pid
        os.kill(pid, signal.SIGCONT)
        await until(partial(router.finds, services[0], router_pb2.HEALTH_SERVING), AT_ONCE_S, "it is well again")
        await services[1].process.stop()
        answer = await stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["used again"]), timeout=5 * AT_ONCE_S)
        assert answer.results[0].HasField("embedding")
        assert services[0].process.pid == pid


async def test_a_stream_of_its_own_client_is_answered_once_through_a_router(tmp_path: Path) -> None:
    """EncodeStream, with a reference counted for each item, while the only encoder is killed in a batch."""
    service = Faulty("encoder", tmp_path / "encoder", MAX_BATCH="4")
    async with started(service), router_for([service], batch_items=8) as router:
        service.fault("slow 0.05")
        stub = encoder_pb2_grpc.EncoderServiceStub(router.channel)
        contents = [path.read_bytes() for path in image_files(tmp_path / "images", COUNT)]
        items = [
            encoder_pb2.EncodeStreamItem(ref=str(n), image=common_pb2.Image(content=content))
            for n, content in enumerate(contents)
        ]
        requests = [encoder_pb2.EncodeStreamRequest(items=items[n : n + 32]) for n in range(0, COUNT, 32)]
        refs: Counter[str] = Counter()
        async for response in stub.EncodeStream(iter(requests), timeout=600):
            if not refs:
                kill(service)
            refs.update(result.ref for result in response.results if result.result.HasField("embedding"))
        assert refs == {str(n): 1 for n in range(COUNT)}
        assert service.process.restarts == 1
