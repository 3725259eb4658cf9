"""The images without torch: really built, looked into, and started with a read-only root."""

import asyncio
import contextlib
import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from caption_svc.app import CaptionApp
from caption_svc.settings import CaptionSettings
from encoder_svc.app import EncoderApp
from encoder_svc.settings import EncoderSettings
from lensmesh_chassis.process.server import running
from lensmesh_chassis.process.server_info import version
from tests.images.builder import Builder
from tests.images.conftest import TARGETS
from tests.images.containers import Container, Started
from tests.support.tools import ROOT
from tests.support.waiting import until

# The Router's has OpenCV.
MOST_BYTES = {"router": 400 * 10**6, "search": 250 * 10**6, "http": 280 * 10**6, "cli": 250 * 10**6}
PATIENCE_MINUTES = 10.0


def size(folder: Path) -> int:
    """Bytes of all files, hard links once."""
    return int(subprocess.run(["du", "-sb", folder], capture_output=True, text=True, check=True).stdout.split()[0])


def installed(root: Path) -> dict[str, str]:
    """Distribution -> version, as its own records say."""
    found = {}
    for folder in (root / "opt" / "lensmesh").glob("lib/python3*/site-packages/*.dist-info"):
        name, _, release = folder.name.removesuffix(".dist-info").rpartition("-")
        found[re.sub(r"[-_.]+", "-", name).lower()] = release
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_small_and_without_torch(roots: dict[str, Path], target: str) -> None:
    added = size(roots[target]) - size(roots["base"])
    assert 0 < added < MOST_BYTES[target], f"{target} adds {added / 1e6:.0f} MB to its base"
    assert not installed(roots[target]).keys() & {"torch", "transformers", "open-clip-torch", "pip", "uv", "hatchling"}


def test_what_each_image_says_of_itself(builder: Builder, images: dict[str, str]) -> None:
    for target, image in images.items():
        config = builder.config(image)
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", config["User"])
        assert config["StopSignal"] == "SIGTERM"
        assert config["Labels"]["org.opencontainers.image.title"] == f"lensmesh-{target}"
        assert config["Labels"]["org.opencontainers.image.version"] == version()
        assert not [line for line in config["Env"] if re.search(r"(?i)pip_|index|secret|password|token|://", line)]


def test_only_what_is_locked_is_in_them(roots: dict[str, Path]) -> None:
    """And the bill of materials in the image names all of it."""
    for target in TARGETS:
        there = installed(roots[target])
        bill = json.loads((roots[target] / "opt" / "lensmesh" / "sbom.cdx.json").read_text())
        assert bill["bomFormat"] == "CycloneDX"
        listed = {re.sub(r"[-_.]+", "-", one["name"]).lower(): one["version"] for one in bill["components"]}
        assert listed == there
        lock = (ROOT / "deploy" / "images" / f"{target}.lock").read_text()
        # Pairs: a package may have another version for another Python.
        locked = set(re.findall(r"^([a-z0-9-]+)==([^ ]+)", lock, re.MULTILINE))
        del there["lensmesh"]
        assert there.items() <= locked


def test_nothing_of_the_build_is_left(roots: dict[str, Path]) -> None:
    for target in TARGETS:
        root = roots[target]
        assert not [name for name in ("src", "dist", "opt/build", "root/.cache", "run/pip") if (root / name).exists()]
        assert not (root / "etc" / "pip.conf").exists()


def test_the_root_cannot_be_written(containers: dict[str, Container]) -> None:
    code = "import os, sys; print(os.getpid(), os.getuid(), os.getgid()); open('/tmp/yes', 'w'); open(sys.argv[1], 'w')"
    for target, container in containers.items():
        done = container.run("python", "-c", code, "/opt/lensmesh/no")
        assert done.stdout.split() == ["1", *container.user.split(":")], done.stderr
        assert "Read-only file system" in done.stderr, target
        assert (container.tmp / "yes").exists()


def endpoints(ready: Path) -> dict[str, Any]:
    """What a service wrote into its ready file."""
    found: dict[str, Any] = json.loads(ready.read_text())
    return found


def healthy(container: Container) -> bool:
    """What the image's health check says, asked at the place where this run has its health."""
    address = endpoints(container.tmp / "ready")["health"]
    program = [re.sub(r"127\.0\.0\.1:\d+", address, word) for word in container.healthcheck()]
    return container.run(*program).returncode == 0


def at_free_ports(prefix: str) -> dict[str, str]:
    """Settings of a service, whose container shares the network of this machine."""
    free = dict.fromkeys(("LISTEN", "HEALTH_LISTEN", "METRICS_LISTEN"), "127.0.0.1:0")
    return {f"LENSMESH_{prefix}_{name}": value for name, value in {**free, "READY_FILE": "/tmp/ready"}.items()}


async def answering(started: Started, container: Container) -> dict[str, Any]:
    """Where a service listens, once it answers."""
    ready = container.tmp / "ready"
    await until(lambda: ready.exists() or started.process.poll() is not None, seconds=60 * PATIENCE_MINUTES)
    assert started.process.poll() is None, started.said()
    return endpoints(ready)


async def test_a_mesh_of_containers(containers: dict[str, Container], tmp_path: Path) -> None:
    """All of them as containers, beside mocks of the model services: everything works, health checks say so.

    SIGTERM ends each with 0 although it is process 1.
    """
    router, search, http, cli = (containers[target] for target in ("router", "search", "http", "cli"))
    store = {"LENSMESH_SEARCH_STORE_URL": "qdrant+local:/tmp/store"}
    mock: dict[str, Any] = {"listen": "127.0.0.1:0", "model": "mock"}
    async with (
        running(EncoderSettings(**mock), EncoderApp, "encoder") as encoder,
        running(CaptionSettings(**mock), CaptionApp, "caption") as captioner,
    ):
        with search.started(tmp_path / "search.log", **at_free_ports("SEARCH"), **store) as one:
            at_search = await answering(one, search)
            targets = {
                "LENSMESH_ROUTER_ENCODER_TARGETS": encoder.address,
                "LENSMESH_ROUTER_CAPTION_TARGETS": captioner.address,
                "LENSMESH_ROUTER_SEARCH_TARGETS": at_search["addresses"][0],
            }
            with contextlib.ExitStack() as stack:
                other = stack.enter_context(
                    router.started(tmp_path / "router.log", **at_free_ports("ROUTER"), **targets)
                )
                at_router = await answering(other, router)
                assert at_router["pid"] == at_search["pid"] == 1
                called = {"LENSMESH_HTTP_ROUTER_TARGET": at_router["addresses"][0]}
                door = stack.enter_context(http.started(tmp_path / "http.log", **at_free_ports("HTTP"), **called))
                at_door = await answering(door, http)
                arguments = ("smoke", "--json", "--wait", "300", "--target", at_router["addresses"][0])
                smoke = await asyncio.to_thread(cli.entry, *arguments, "--http", at_door["addresses"][0])
                said = (one.said(), other.said(), door.said())
                assert smoke.returncode == 0, "\n".join((smoke.stdout, smoke.stderr, *said))
                for container in (router, search, http):
                    assert await asyncio.to_thread(healthy, container)
                for started in (door, other, one):
                    started.signal(signal.SIGTERM)
                    assert await asyncio.to_thread(started.process.wait, 300) == 0, started.said()
    gone = await asyncio.to_thread(router.run, "python", "-m", "lensmesh_chassis.process.probe", at_router["health"])
    assert gone.returncode == 1
