"""`lensmesh smoke`, and `deploy/smoke`, against meshes whole and broken: what it says, and what it leaves behind."""

import asyncio
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from http_svc.app import HttpApp
from http_svc.serving.listeners import HttpListeners
from http_svc.settings import HttpSettings
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.process.server import running
from lensmesh_chassis.reasons import Reason
from router_svc.app import RouterApp
from router_svc.settings import RouterSettings
from tests.mesh.fake_jaeger import FakeJaeger
from tests.router.conftest import Mesh as FakeMesh
from tests.router.fakes import FakeSearch
from tests.support.certificates import Authority
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 300.0
STEPS = ["health", "services", "reflection", "encode", "caption", "ingest", "search", "delete"]
NOBODY = "127.0.0.1:1"


@dataclass
class Ran:
    """A run of the command: its exit code, and each step's outcome."""

    code: int
    steps: dict[str, dict[str, Any]]

    def grade(self, step: str) -> str:
        return str(self.steps[step]["grade"])

    @property
    def bad(self) -> set[str]:
        return {name for name, outcome in self.steps.items() if outcome["grade"] != "ok"}

    def said(self, step: str) -> str:
        """What it found, and where to look."""
        return f"{self.steps[step]['found']} {self.steps[step]['look']}"


async def start(*arguments: str, command: tuple[str, ...] = ()) -> asyncio.subprocess.Process:
    """The command, with --json."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LENSMESH_")}
    program = command or (sys.executable, "-m", "lensmesh_cli", "smoke")
    return await asyncio.create_subprocess_exec(
        *program,
        "--json",
        *arguments,
        env=kept,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process) -> Ran:
    async with asyncio.timeout(PATIENCE_S):
        out, error = await process.communicate()
    assert process.returncode is not None
    assert out, error.decode()
    told = json.loads(out)
    assert told["ok"] == (process.returncode == 0)
    return Ran(process.returncode, {step["step"]: step for step in told["steps"]})


async def smoke(target: str, *arguments: str) -> Ran:
    return await ended(await start("--target", target, *arguments))


@asynccontextmanager
async def router(mesh: dict[str, str], **changes: Any) -> AsyncIterator[str]:
    """Another router on the same services, but for what is changed: its address."""
    chosen: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "encoder_targets": mesh["encoder"],
        "caption_targets": mesh["caption"],
        "search_targets": mesh["search"],
        "caption_wait_seconds": 0,
        "probe_seconds": 30,
    }
    async with running(RouterSettings(**(chosen | changes)), RouterApp, "router") as server:
        yield server.address


async def left_behind(search: str) -> list[str]:
    """Collections of smoke tests that are still there."""
    async with open_channel(search) as channel:
        stub = search_pb2_grpc.SearchServiceStub(channel)
        answer = await stub.ListCollections(search_pb2.ListCollectionsRequest(page_size=1000))
    return [collection.name for collection in answer.collections if collection.name.startswith("smoke-")]


async def test_a_good_mesh(mesh: dict[str, str]) -> None:
    settings = HttpSettings(listen="127.0.0.1:0", router_target=mesh["router"])
    async with running(settings, HttpApp, "http", listeners=HttpListeners) as door:
        ran = await smoke(mesh["router"], "--http", door.address)
    assert list(ran.steps) == [*STEPS[:-1], "http", STEPS[-1]]
    assert ran.bad == set()
    assert ran.code == 0
    assert f"http://{door.address} is ready, and finds 2 images" in ran.said("http")
    assert await left_behind(mesh["search"]) == []


async def test_deploy_smoke_is_the_same_command(mesh: dict[str, str]) -> None:
    """From a checkout, wherever it is called from."""
    ran = await ended(await start("--target", mesh["router"], command=(str(ROOT / "deploy" / "smoke"),)))
    assert list(ran.steps) == STEPS
    assert ran.code == 0


async def test_people_read_one_line_for_each_step(mesh: dict[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "lensmesh_cli", "smoke", "--target", mesh["encoder"]),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    assert process.returncode == 1
    lines = out.decode().splitlines()
    assert [line.split()[1] for line in lines if "look at:" not in line] == STEPS
    assert "2 of 8 steps went well" in error.decode()
    assert all(
        "give the router's address" in after
        for before, after in itertools.pairwise(lines)
        if before.startswith("fail") and "router" in before
    )


async def test_without_a_captioner_the_rest_is_tried(mesh: dict[str, str]) -> None:
    async with router(mesh, caption_targets=NOBODY) as target:
        ran = await smoke(target, "--http", NOBODY)
    assert ran.code == 1
    assert ran.bad == {"services", "caption", "http"}
    assert f"no front door answers at http://{NOBODY}/readyz" in ran.said("http")
    assert f"caption {NOBODY} is unreachable" in ran.said("services")
    assert "LENSMESH_ROUTER_CAPTION_TARGETS" in ran.said("caption")
    assert await left_behind(mesh["search"]) == []


async def test_without_search(mesh: dict[str, str]) -> None:
    async with router(mesh, search_targets=NOBODY) as target:
        ran = await smoke(target)
    assert ran.code == 1
    assert ran.bad == {"services", "ingest", "search", "delete", "clean-up"}
    assert f"search {NOBODY} is unreachable" in ran.said("services")
    assert "LENSMESH_ROUTER_SEARCH_TARGETS" in ran.said("ingest")
    assert "perhaps left behind: smoke-" in ran.said("clean-up")
    assert ran.grade("search") == "skip"


async def test_without_an_encoder(mesh: dict[str, str]) -> None:
    async with router(mesh, encoder_targets=NOBODY) as target:
        ran = await smoke(target)
    assert ran.code == 1
    assert {"services", "encode", "ingest"} <= ran.bad
    assert "LENSMESH_ROUTER_ENCODER_TARGETS" in ran.said("encode")
    assert await left_behind(mesh["search"]) == []


async def test_a_service_behind_the_router_is_told_from_one(mesh: dict[str, str]) -> None:
    for name in ("encoder", "search"):
        ran = await smoke(mesh[name])
        assert ran.code == 1
        assert ran.grade("health") == "ok"
        assert "is no router" in ran.said("services")
        assert "give the router's address" in ran.said("ingest")
        assert "clean-up" not in ran.steps
    assert await left_behind(mesh["search"]) == []


async def test_nobody_there() -> None:
    ran = await smoke(NOBODY)
    assert ran.code == 1
    assert "nothing listens there" in ran.said("health")
    assert {ran.grade(step) for step in STEPS[1:]} == {"skip"}


async def test_tls_and_what_can_be_wrong_with_it(mesh: dict[str, str], tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path / "ca", "ours"), Authority(tmp_path / "other", "theirs")
    server, client, wrong = authority.issue("server"), authority.issue("client"), stranger.issue("client")
    tls = {"tls_certificate_file": server.certificate, "tls_key_file": server.key}
    ca = ("--ca-file", authority.file)
    ours = ("--certificate-file", client.certificate, "--key-file", client.key)
    theirs = ("--certificate-file", wrong.certificate, "--key-file", wrong.key)
    async with router(mesh, **tls) as plain, router(mesh, **tls, tls_client_ca_file=authority.file) as mutual:
        good = await asyncio.gather(
            smoke(plain, *ca), smoke(plain, *ca, "--server-name", "localhost"), smoke(mutual, *ca, *ours)
        )
        bad = {
            "--ca-file": await smoke(plain, "--ca-file", stranger.file),
            "--server-name": await smoke(plain, *ca, "--server-name", "lensmesh.example.org"),
            "TLS": await smoke(plain),
        }
        refused = await asyncio.gather(smoke(mutual, *ca), smoke(mutual, *ca, *theirs))
    assert [ran.bad for ran in good] == [set()] * 3
    for hint, ran in bad.items():
        assert ran.code == 1
        assert hint in ran.said("health"), ran.said("health")
    for ran in refused:
        assert ran.code == 1
        assert ran.grade("health") == "fail"
        assert "certificate" in ran.said("health")
    missing = await start("--target", plain, "--ca-file", str(tmp_path / "gone.pem"))
    _, error = await missing.communicate()
    assert missing.returncode == 2
    assert "gone.pem cannot be read" in error.decode()


async def test_a_mesh_that_comes_up_later_is_waited_for(mesh: dict[str, str]) -> None:
    async with router(mesh) as free:
        pass
    process = await start("--target", free, "--wait", "240")
    async with router(mesh, listen=free):
        ran = await ended(process)
    assert ran.bad == set()


@pytest.fixture
async def faked() -> AsyncIterator[FakeMesh]:
    """A router in front of fakes, not started."""
    async with AsyncExitStack() as stack:
        yield FakeMesh(stack)


async def test_ctrl_c_cleans_up(faked: FakeMesh) -> None:
    """In the middle of the ingest, which is let to its end so that nothing appears after the delete."""
    mesh = await faked.start()
    mesh.search.faults.gate = asyncio.Event()
    process = await start("--target", mesh.server.address)
    await until(lambda: mesh.search.faults.in_flight > 0, seconds=300)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE_S):
        assert b"interrupted" in await process.stderr.readline()
    mesh.search.faults.gate.set()
    ran = await ended(process)
    assert ran.code == 130
    assert ran.grade("ingest") == "ok"
    assert ran.grade("search") == ran.grade("delete") == "skip"
    assert ran.grade("clean-up") == "ok"
    assert mesh.search.collections == {}


async def test_a_search_that_answers_wrongly_is_seen(faked: FakeMesh) -> None:
    """The fake store knows no filters."""
    mesh = await faked.start()
    ran = await smoke(mesh.server.address)
    assert ran.bad == {"search"}
    assert "a filter on metadata finds the wrong items" in ran.said("search")
    assert mesh.search.collections == {}


async def test_a_delete_that_fails_is_said_with_the_way_out(faked: FakeMesh) -> None:
    class Stubborn(FakeSearch):
        async def DeleteCollection(self, request: search_pb2.DeleteCollectionRequest, context: Any) -> Any:
            raise Unavailable(Reason.STORE_UNAVAILABLE, "the store is away")

    faked.search = Stubborn()
    mesh = await faked.start()
    ran = await smoke(mesh.server.address)
    [name] = mesh.search.collections
    assert ran.code == 1
    assert f"perhaps left behind: {name} (the store is away)" in ran.said("clean-up")
    assert "LENSMESH_SEARCH_STORE_URL" in ran.said("delete")
    assert f'{{"name": "{name}"}}' in ran.said("clean-up")


async def test_the_trace(mesh: dict[str, str]) -> None:
    """It is asked for until all services that took part have sent their spans."""
    everybody = ["lensmesh-router", "lensmesh-encoder", "lensmesh-caption", "lensmesh-search"]
    with FakeJaeger([[], everybody[:1], everybody]) as jaeger:
        ran = await smoke(mesh["router"], "--jaeger", jaeger.address)
        assert list(ran.steps) == [*STEPS[:-1], "trace", STEPS[-1]]
        assert ran.bad == set()
        [trace_id] = set(jaeger.asked)
        assert f"{jaeger.address}/trace/{trace_id}" in ran.said("trace")
    ran = await smoke(mesh["router"], "--jaeger", f"http://{NOBODY}")
    assert ran.bad == {"trace"}
    assert "does not answer" in ran.said("trace")
    assert await left_behind(mesh["search"]) == []
