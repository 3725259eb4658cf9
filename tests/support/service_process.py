"""The service of every_shape as a process of its own."""

import asyncio
import contextlib
import json
import os
import sys
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.every_shape import SHAPES
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0


@dataclass
class Process:
    """A running service process and where it listens."""

    process: asyncio.subprocess.Process
    ready: Path

    async def addresses(self) -> dict[str, Any]:
        await until(lambda: self.ready.exists() or self.process.returncode is not None)
        if self.process.returncode is not None:
            pytest.fail(f"ended with {self.process.returncode}: {await self.said()}")
        content: dict[str, Any] = json.loads(self.ready.read_text())
        return content

    async def said(self) -> str:
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    async def ended(self) -> int:
        return await asyncio.wait_for(self.process.wait(), PATIENCE)


@asynccontextmanager
async def process(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None, **variables: str
) -> AsyncIterator[Process]:
    """The fake service as a process of its own; killed at the end if it still runs."""
    ready = folder / "ready.json"
    complete = {
        "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
        "PATH": os.environ["PATH"],
        "LENSMESH_FAKE_LISTEN": "127.0.0.1:0",
        "LENSMESH_FAKE_READY_FILE": str(ready),
    }
    complete |= {f"LENSMESH_FAKE_{name}": value for name, value in variables.items()} | dict(environment or {})
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.service_main",
        *arguments,
        env=complete,
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Process(started, ready)
    finally:
        with contextlib.suppress(ProcessLookupError):
            started.kill()
        await started.wait()


async def health_of(channel: grpc.aio.Channel, service: str = "") -> int:
    answer = await health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE
    )
    status: int = answer.status
    return status


async def says(channel: grpc.aio.Channel, status: int) -> bool:
    return await health_of(channel) == status


async def until_serving(channel: grpc.aio.Channel) -> None:
    await until(lambda: says(channel, health_pb2.HealthCheckResponse.SERVING))


async def entered(address: str, count: int) -> bool:
    """Whether so many calls of the fake service are inside, as its metrics tell."""
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(f"http://{address}/metrics", timeout=PATIENCE).read())
    lines = [line for line in text.decode().splitlines() if line.startswith("grpc_server_in_flight{")]
    return sum(int(float(line.split()[-1])) for line in lines if SHAPES in line) == count
