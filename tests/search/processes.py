"""The service as a process: started as operators start it."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from grpc_health.v1 import health_pb2, health_pb2_grpc

from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from search_svc.app import SERVICE
from tests.search.support import Stub
from tests.support.waiting import until


def environment(url: str, **settings: str) -> dict[str, str]:
    """A process' environment: this checkout, a free port, and settings by the end of their names."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "LENSMESH_SEARCH_STORE_URL": url,
        "LENSMESH_SEARCH_LISTEN": "127.0.0.1:0",
        **{f"LENSMESH_SEARCH_{name.upper()}": value for name, value in settings.items()},
    }


@dataclass
class SearchProcess:
    """One that runs."""

    process: asyncio.subprocess.Process
    stub: Stub
    health: health_pb2_grpc.HealthStub
    address: str

    async def serving(self) -> bool:
        """What grpc.health.v1 says of SearchService."""
        answer = await self.health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def reason(self) -> str:
        """Why it does not serve, as GetInfo tells it."""
        info = await self.stub.GetInfo(search_pb2.GetInfoRequest())
        return info.server.not_serving_reason

    async def recovers(self) -> None:
        """Waits until it serves."""
        await until(self.serving)
        assert await self.reason() == ""


@asynccontextmanager
async def search_process(url: str, folder: Path, **settings: str) -> AsyncIterator[SearchProcess]:
    """`python -m search_svc` on a store, looking at it ten times a second; killed at the end if it still runs."""
    ready = folder / "ready.json"
    options = {"store_check_seconds": "0.1", "ready_file": str(ready), **settings}
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "search_svc", env=environment(url, **options), stderr=log
        )
    try:

        async def is_ready() -> bool:
            assert process.returncode is None, (folder / "log").read_text()
            return ready.exists()

        await until(is_ready)
        address = json.loads(ready.read_text())["addresses"][0]
        async with open_channel(address) as channel:
            stub, health = search_pb2_grpc.SearchServiceStub(channel), health_pb2_grpc.HealthStub(channel)
            yield SearchProcess(process, stub, health, address)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
