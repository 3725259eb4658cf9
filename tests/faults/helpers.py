"""Model services as real processes with faults on demand, a router before them, and what health says of them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image

from caption_svc.app import SERVICE as CAPTIONER
from encoder_svc.app import SERVICE as ENCODER
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh_chassis.channels import OWN_CONNECTIONS
from lensmesh_chassis.process.server import running
from lensmesh_local.process import Managed, Spec
from lensmesh_local.supervisor import serves
from router_svc.app import RouterApp
from router_svc.settings import RouterSettings

ROOT: Final = Path(__file__).resolve().parents[2]
NAMES: Final = {"encoder": ENCODER, "caption": CAPTIONER}
SERVING: Final = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
# An answer on this machine, whoever else computes; what is promised "at once" is waited for five times as long.
AT_ONCE_S: Final = 10.0


async def until(condition: Callable[[], Any | Awaitable[Any]], within_s: float, what: str) -> None:
    """Waits for a state that is promised within some seconds five times as long."""
    try:
        async with asyncio.timeout(5 * within_s):
            while True:
                found = condition()
                if await found if inspect.isawaitable(found) else found:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {5 * within_s:g} s: {what}") from None


class Faulty:
    """One encoder or captioner in a process of its own, started again where it ends, as under `lensmesh up`."""

    def __init__(self, kind: str, folder: Path, **settings: str) -> None:
        folder.mkdir(parents=True)
        self.kind = kind
        self.service = NAMES[kind]
        self._faults = folder / "faults"
        prefix, ready = f"LENSMESH_{kind.upper()}_", folder / "ready.json"
        own = {"LISTEN": "127.0.0.1:0", "METRICS_LISTEN": "127.0.0.1:0", "READY_FILE": str(ready)}
        own |= {"LOG_FORMAT": "console", "INSTANCE": folder.name} | settings
        environment = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}", "FAULTS": str(self._faults), "NO_COLOR": "1"}
        self.said: list[str] = []

        def same_address(told: Mapping[str, Any]) -> Mapping[str, str]:
            return {f"{prefix}LISTEN": told["addresses"][0], f"{prefix}METRICS_LISTEN": told["metrics"]}

        self.process = Managed(
            Spec(
                name=folder.name,
                module="tests.faults.faulty",
                arguments=(kind,),
                environment=environment | {prefix + key: value for key, value in own.items()},
                ready_file=ready,
                log_file=folder / "log",
                serving=serves,
                pin=same_address,
            ),
            self.said.append,
        )

    @property
    def address(self) -> str:
        """Where it listens, for all its lives."""
        return str(self.process.ready["addresses"][0])

    @property
    def log(self) -> str:
        """All that it has written."""
        return self.process.spec.log_file.read_text()

    def fault(self, what: str) -> None:
        """From the next batch on this goes wrong; "": nothing. It ends with the process."""
        draft = self._faults.with_suffix(".draft")
        draft.write_text(what)
        draft.replace(self._faults)

    async def check(self, name: str = "") -> int | None:
        """What grpc.health.v1 says of a service; None where nobody answers."""
        async with grpc.aio.insecure_channel(self.address, [OWN_CONNECTIONS]) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            with contextlib.suppress(grpc.RpcError):
                return int((await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)).status)
        return None

    async def says(self, status: int) -> bool:
        """Whether it says so of itself and of everything together."""
        return all([await self.check(name) == status for name in ("", self.service)])

    async def watch(self, heard: list[int], name: str) -> None:
        """Every change of health, as a client's watch hears it; a new one where it breaks. To be cancelled."""
        while True:
            async with grpc.aio.insecure_channel(self.address, [OWN_CONNECTIONS]) as channel:
                stub = health_pb2_grpc.HealthStub(channel)
                with contextlib.suppress(grpc.RpcError):
                    async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=name)):
                        heard.append(answer.status)
            await asyncio.sleep(0.05)


@asynccontextmanager
async def started(*services: Faulty) -> AsyncIterator[None]:
    """All of them serve."""
    try:
        await asyncio.gather(*(service.process.start() for service in services))
        yield
    finally:
        await asyncio.gather(*(service.process.kill() for service in services))


@asynccontextmanager
async def heard_of(service: Faulty) -> AsyncIterator[list[int]]:
    """The statuses that a watch of the service's own name and one of "" hear, in one list. Each has heard one."""
    heard: list[int] = []
    watches = [asyncio.create_task(service.watch(heard, name)) for name in ("", service.service)]
    try:
        await until(lambda: len(heard) >= len(watches), AT_ONCE_S, "each watch hears how it is")
        yield heard
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


class Router:
    """A real router before such services."""

    def __init__(self, address: str, channel: grpc.aio.Channel) -> None:
        self.address = address
        self.channel = channel
        self._stub = router_pb2_grpc.RouterServiceStub(channel)

    async def finds(self, service: Faulty, health: router_pb2.Health.ValueType, reason: str = "") -> bool:
        """Whether GetStatus says so of it, with such a reason."""
        answer = await self._stub.GetStatus(router_pb2.GetStatusRequest(), timeout=60)
        [status] = [one for one in answer.services if one.address == service.address]
        return status.health == health and reason in status.reason


@asynccontextmanager
async def router_for(services: Sequence[Faulty], **settings: Any) -> AsyncIterator[Router]:
    """A router in this process."""
    targets = {f"{kind}_targets": ",".join(one.address for one in services if one.kind == kind) for kind in NAMES}
    chosen = RouterSettings(**{"listen": "127.0.0.1:0", "search_targets": "", **targets, **settings})
    async with (
        running(chosen, RouterApp, "router") as server,
        grpc.aio.insecure_channel(server.address, [OWN_CONNECTIONS]) as channel,
    ):
        yield Router(server.address, channel)


def image_files(folder: Path, count: int) -> list[Path]:
    """Small images, no two alike."""
    folder.mkdir()
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.new("RGB", (24, 16), (number % 256, number // 256, 11)).save(path)
    return paths
