"""What the manifests configure really runs: the example's pod, the probes, and a setting that nobody knows."""

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2

from tests.kubernetes.manifests import SERVICES, Manifest, Objects, service_of
from tests.kubernetes.processes import Container, base_environment, started
from tests.kubernetes.rendering import FOLDERS, render, with_secrets
from tests.kubernetes.settings import load
from tests.support.waiting import until

SERVING: int = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: int = health_pb2.HealthCheckResponse.NOT_SERVING
SOCKETS = "/run/lensmesh"


def folder(name: str) -> Objects:
    """One of the repository's renderings."""
    return Objects(with_secrets(render(next(one for one in FOLDERS if one.name == name))))


def service(objects: Objects, name: str) -> Manifest:
    """The container of one service."""
    return next(one for pod in objects.pods() for one in pod.containers if service_of(one) == name)


@pytest.fixture
def sockets() -> Iterator[Path]:
    """For the example's shared folder. Not pytest's own, whose paths are too long for sockets."""
    with tempfile.TemporaryDirectory(prefix="lensmesh-k8s-") as name:
        yield Path(name)


def first_line(program: Path, environment: dict[str, str]) -> str:
    """What a program says first; it is not let go on."""
    with subprocess.Popen(
        [sys.executable, str(program)], env=base_environment() | environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            return process.stdout.readline()
        finally:
            process.kill()


async def serves(running: Container, probe: Manifest) -> bool:
    """Whether a probe would succeed."""
    return await running.probe(probe) == SERVING


async def test_the_example_runs(sockets: Path, tmp_path: Path) -> None:
    """Encoder, Router and application in the pod's order, over its sockets, each probed as the manifest says."""
    objects = folder("examples/app-sidecar")

    def environment(container: Manifest) -> dict[str, str]:
        there = objects.environment(container)
        return {name: value.replace(SOCKETS, str(sockets)) for name, value in there.items()}

    encoder, router = service(objects, "encoder"), service(objects, "router")
    # The model is not the point here, and the mock starts without torch.
    settings = environment(encoder) | {"LENSMESH_ENCODER_MODEL": "mock"}
    with started(encoder, settings, tmp_path) as first, started(router, environment(router), tmp_path) as second:
        for container, running in ((encoder, first), (router, second)):
            await until(running.ready, seconds=300)
            for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                await until(partial(serves, running, container[kind]), seconds=300)
        pod = objects.pod("app")
        application = next(one for one in pod.containers if one["name"] == "app")
        program = tmp_path / "app.py"
        config = next(volume for volume in pod.volumes() if volume["name"] == "app")["configMap"]["name"]
        program.write_text(objects.data("ConfigMap", config)["app.py"])
        assert application["command"] == ["python", "/app/app.py"]
        said = first_line(program, environment(application))
        assert said.startswith("a red circle: 1.00, a circle that is red: ")
        # As native sidecars end: in the reverse of their order.
        assert second.end() == 0
        assert first.end() == 0
    assert not await asyncio.to_thread(lambda: list(sockets.iterdir()))


async def test_a_store_that_is_away_makes_search_unready_and_is_no_reason_to_restart_it(tmp_path: Path) -> None:
    objects = folder("overlays/dev")
    container = service(objects, "search")
    # Nobody listens on port 1.
    away = objects.environment(container) | {
        "LENSMESH_SEARCH_STORE_URL": "postgresql://lensmesh:x@127.0.0.1:1/lensmesh"
    }
    with started(container, away, tmp_path) as running:
        await until(running.ready, seconds=300)
        assert await running.probe(container["startupProbe"]) == SERVING
        assert await running.probe(container["livenessProbe"]) == SERVING
        assert await running.probe(container["readinessProbe"]) == NOT_SERVING
        assert running.end() == 0


MISSPELT: dict[str, tuple[str, str]] = {
    "router": ("LENSMESH_ROUTER_BATCH_ITEM", "LENSMESH_ROUTER_BATCH_ITEMS"),
    "encoder": ("LENSMESH_ENCODER_MAX_BACTH", "LENSMESH_ENCODER_MAX_BATCH"),
    "caption": ("LENSMESH_CAPTION_DEVISE", "LENSMESH_CAPTION_DEVICE"),
    "search": ("LENSMESH_SEARCH_POOLSIZE", "LENSMESH_SEARCH_POOL_SIZE"),
    "http": ("LENSMESH_HTTP_ROUTER_TARGETS", "LENSMESH_HTTP_ROUTER_TARGET"),
}


@pytest.mark.parametrize("name", SERVICES)
def test_an_unknown_setting_in_a_config_map_ends_the_start(name: str, tmp_path: Path) -> None:
    """The ConfigMap's real content with one word misspelt: the process says which, and what was meant."""
    objects = folder("overlays/prod")
    container = service(objects, name)
    wrong, meant = MISSPELT[name]
    source = container["envFrom"][0]["configMapRef"]["name"]
    objects.get("ConfigMap", source)["data"][wrong] = "1"
    with started(container, objects.environment(container), tmp_path) as running:
        assert running.process.wait(300) == 1
        said = running.log.read_text()
    assert said.strip() == f"{wrong} is no setting: did you mean {meant}? Remove it or correct its name."
    assert not running.ready_file.exists()


@pytest.mark.parametrize("variable", ["LENSMESH_ROUTER_PORT", "LENSMESH_ENCODER_SERVICE_HOST"])
def test_variables_of_kubernetes_itself_are_no_settings(variable: str) -> None:
    """As a pod finds them that asks for service links, beside Services of such names."""
    objects = folder("overlays/dev")
    for name in ("router", "encoder"):
        load(name, objects.environment(service(objects, name)) | {variable: "tcp://10.0.0.1:50050"})
