"""The manifests run the images that the Dockerfile makes, as they are made."""

import re
from pathlib import Path

import yaml

from tests.kubernetes.manifests import SERVICES, Objects, service_of
from tests.kubernetes.rendering import COMBINATIONS, FOLDERS, Variant, render

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
_STAGE = re.compile(r"^FROM \S+ AS (\S+)$", re.MULTILINE)


def everything() -> list[Objects]:
    """Every rendering."""
    return [Objects(render(variant)) for variant in (*FOLDERS, *COMBINATIONS)]


def overlay(name: str) -> Objects:
    """One of the overlays."""
    return Objects(render(Variant(f"overlays/{name}")))


def stages() -> dict[str, str]:
    """Text of each stage by its name."""
    parts = _STAGE.split(DOCKERFILE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_images_are_targets() -> None:
    images = {container["image"] for objects in everything() for pod in objects.pods() for container in pod.containers}
    ours = {image.partition(":")[0].removeprefix("lensmesh-") for image in images if image.startswith("lensmesh-")}
    assert ours == {*SERVICES, "cli"}
    assert ours <= set(stages())


def test_pods_run_as_the_images_user() -> None:
    (user,) = set(re.findall(r"^USER (\d+:\d+)$", DOCKERFILE, re.MULTILINE))
    for objects in everything():
        for pod in objects.pods():
            if any(container["image"].startswith("lensmesh-") for container in pod.containers):
                context = pod.spec["securityContext"]
                assert f"{context['runAsUser']}:{context['runAsGroup']}" == user, pod.name


def test_ports_are_those_of_the_images() -> None:
    """Without sidecars; with them a service listens on the loopback."""
    exposed = {
        name: set(map(int, found.group(1).split()))
        for name, text in stages().items()
        if (found := re.search(r"^EXPOSE (.*)$", text, re.MULTILINE))
    }
    dev = overlay("dev")
    for service in SERVICES:
        (container,) = dev.pod(service).containers
        assert service_of(container) == service
        assert {port["containerPort"] for port in container["ports"]} == exposed[service]


def test_weights_lie_where_the_images_look() -> None:
    (folder,) = set(re.findall(r"\bHF_HOME=(\S+)", DOCKERFILE))
    prod = overlay("prod")
    for service in ("encoder", "caption"):
        container = next(one for one in prod.pod(service).containers if service_of(one) == service)
        assert prod.environment(container)["HF_HOME"] == folder
        assert folder in [mount["mountPath"] for mount in container["volumeMounts"]]


def test_compose_and_kubernetes_run_the_same_versions() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values()
    there = dict(service["image"].rsplit(":", 1) for service in compose if not service["image"].startswith("lensmesh-"))
    here = {
        tuple(container["image"].rsplit(":", 1))
        for objects in everything()
        for pod in objects.pods()
        for container in pod.containers
        if not container["image"].startswith("lensmesh-")
    }
    shared = {(name, tag) for name, tag in here if name in there}
    assert {name for name, _ in shared} == {"pgvector/pgvector", "qdrant/qdrant"}
    assert all(there[name] == tag for name, tag in shared)
