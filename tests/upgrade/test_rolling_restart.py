"""An upgrade without downtime: every service is replaced, one replica after another, while a client works."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import yaml
from PIL import Image

from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_client import Client, IngestItem
from lensmesh_local.process import Managed
from tests.support.postgres import PostgresForTests
from tests.support.processes import service

pytestmark = pytest.mark.slow

COUNT = 2000
DEPLOYMENT = Path(__file__).parents[2] / "deploy" / "kubernetes" / "base" / "every-service.yaml"
MIN_READY_S = float(yaml.safe_load(DEPLOYMENT.read_text())["spec"]["minReadySeconds"])
"""Time for callers to connect to the one that came back, who try every second."""


class Mesh:
    """Two replicas of each service, as processes, on one database."""

    def __init__(self, folder: Path, store_url: str) -> None:
        self._folder, self._store_url = folder, store_url
        self.replicas: dict[str, list[Managed]] = {}

    async def start(self, name: str, **settings: str) -> None:
        """Both replicas of one service."""
        pair = [service(name, self._folder / f"{name}-{number}", **settings) for number in (1, 2)]
        self.replicas[name] = pair
        await asyncio.gather(*(replica.start() for replica in pair))

    async def stop(self) -> None:
        """Callers first."""
        for name in ("router", "encoder", "caption", "search"):
            await asyncio.gather(*(replica.stop() for replica in self.replicas.get(name, [])))

    def addresses(self, name: str) -> str:
        """Both, comma-separated."""
        return ",".join(str(replica.ready["addresses"][0]) for replica in self.replicas[name])

    @property
    def target(self) -> str:
        """Both routers, as gRPC takes a list."""
        return f"ipv4:{self.addresses('router')}"

    async def replaced(self) -> AsyncIterator[str]:
        """What a rolling update does: each replica drains, ends and comes back before the next one's turn.

        Stores first, callers last. Yields each one's name.
        """
        for name in ("search", "caption", "encoder", "router"):
            for replica in self.replicas[name]:
                old = replica.pid
                await replica.stop()
                await replica.start()
                assert replica.pid not in {None, old}
                yield replica.spec.name
                await asyncio.sleep(MIN_READY_S)


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    database = PostgresForTests()
    mesh = Mesh(tmp_path, database.url)
    async with AsyncExitStack() as stack:
        stack.callback(database.remove)
        stack.push_async_callback(mesh.stop)
        await mesh.start("search", STORE_URL=database.url)
        await asyncio.gather(mesh.start("encoder", MODEL="mock"), mesh.start("caption", MODEL="mock"))
        targets = {f"{name.upper()}_TARGETS": mesh.addresses(name) for name in ("encoder", "caption", "search")}
        await mesh.start("router", **targets)
        yield mesh


def draw(folder: Path, count: int) -> list[Path]:
    """Small images, no two alike."""
    folder.mkdir()
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.new("RGB", (24, 16), (number % 256, number // 256, 11)).save(path)
    return paths


async def stored(target: str, collection: str) -> list[str]:
    """The ids of every item, page by page."""
    ids: list[str] = []
    async with open_channel(target, instrument=False) as channel:
        stub = search_pb2_grpc.SearchServiceStub(channel)
        request = search_pb2.ListItemsRequest(collection=collection, page_size=500)
        while True:
            page = await stub.ListItems(request, timeout=120)
            ids += [item.id for item in page.items]
            request.page_token = page.next_page_token
            if not request.page_token:
                return ids


async def test_every_service_is_replaced_during_an_ingest_of_2000(mesh: Mesh, tmp_path: Path) -> None:
    """Nothing is lost, and no call fails as a client sees it: neither the ingest's items nor single calls beside it."""
    paths = draw(tmp_path / "images", COUNT)
    # Each replacement lets its share of the items in, so that every one meets items on their way.
    share = COUNT // 10
    room = asyncio.Semaphore(2 * share)
    calls = 0

    async def items() -> AsyncIterator[IngestItem]:
        for path in paths:
            await room.acquire()
            yield IngestItem(path)

    async def call(client: Client) -> None:
        nonlocal calls
        while True:
            await client.search("anything", collection="upgrade", limit=3)
            await client.embed(texts=["a circle"])
            calls += 1
            # Some dozens of calls a second meet each moment of a replacement; more would take the cores from it.
            await asyncio.sleep(0.05)

    async def upgrade() -> list[str]:
        replaced = []
        async for name in mesh.replaced():
            replaced.append(name)
            for _ in range(share):
                room.release()
        return replaced

    async with Client(mesh.target, timeout_s=120) as client:
        first = await client.ingest(IngestItem(paths[0]), collection="upgrade")
        async with asyncio.TaskGroup() as group:
            callers = [group.create_task(call(client)) for _ in range(2)]
            upgraded = group.create_task(upgrade())
            results = [result async for result in client.ingest_many(items(), collection="upgrade")]
            for caller in callers:
                caller.cancel()
    assert len(upgraded.result()) == 8
    assert calls > 0
    assert [result.error for result in results if result.error] == []
    assert sorted(result.index for result in results) == list(range(COUNT))
    ids = await stored(mesh.target, "upgrade")
    assert len(ids) == COUNT
    assert set(ids) == {result.id for result in results}
    assert first.id in ids
