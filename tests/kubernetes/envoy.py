"""Checks: the Envoys of a rendering and what is around them agree."""

from collections.abc import Iterator
from typing import Any

import yaml

from tests.kubernetes.manifests import Manifest, Objects, PodTemplate


def envoys(pod: PodTemplate, objects: Objects) -> list[Any]:
    """The configurations that the Envoys of a pod start with."""
    found = []
    for container in pod.containers:
        if "/envoy:" in container["image"]:
            folder, _, key = container["args"][container["args"].index("--config-path") + 1].rpartition("/")
            source = mounted(container, pod, folder)
            if source and "configMap" in source:
                found.append(yaml.safe_load(objects.data("ConfigMap", source["configMap"]["name"]).get(key, "{}")))
    return found


def mounted(container: Manifest, pod: PodTemplate, folder: str) -> Manifest | None:
    """The volume that lies at `folder` in a container."""
    for mount in container.get("volumeMounts", ()):
        if mount["mountPath"] == folder:
            return next((volume for volume in pod.volumes() if volume["name"] == mount["name"]), None)
    return None


def listeners(tree: Any) -> Iterator[tuple[str, int]]:
    """Where an Envoy listens."""
    for listener in tree.get("static_resources", {}).get("listeners", ()):
        address = listener["address"]["socket_address"]
        yield address["address"], address["port_value"]


def sidecars(objects: Objects) -> Iterator[str]:
    """Envoy's ports are open, its files are mounted, its neighbours exist, and who it expects has a certificate."""
    issued = {uri for one in objects.of("Certificate") for uri in one["spec"].get("uris", ())}
    for pod in objects.pods():
        container = next((one for one in pod.containers if "/envoy:" in one["image"]), None)
        if container is None:
            continue
        configurations = envoys(pod, objects)
        if not configurations:
            yield f"{pod.name}: Envoy has no configuration"
        for tree in configurations:
            reached = {port for host, port in listeners(tree) if host == "0.0.0.0"}
            opened = {port["containerPort"] for port in container["ports"]}
            if reached != opened:
                yield f"{pod.name}: Envoy listens on {sorted(reached)} and the container opens {sorted(opened)}"
            yield from _files(pod, container, tree, objects)
            for host, port in _neighbours(tree):
                service = objects.named("Service", host)
                if service is None or port not in [one["port"] for one in service["spec"]["ports"]]:
                    yield f"{pod.name}: Envoy calls {host}:{port}, which no Service is"
            for identity in _identities(tree):
                if issued and identity not in issued:
                    yield f"{pod.name}: Envoy expects {identity}, which no Certificate has"


def _files(pod: PodTemplate, container: Manifest, tree: Any, objects: Objects) -> Iterator[str]:
    """Files of the configuration, and the files that those name."""
    for path in _values(tree, "path"):
        folder, _, key = str(path).rpartition("/")
        if not str(path).endswith(".yaml"):
            continue
        source = mounted(container, pod, folder)
        content = objects.data("ConfigMap", source["configMap"]["name"]).get(key) if source else None
        if content is None:
            yield f"{pod.name}: Envoy reads {path}, which nothing provides"
            continue
        for name in _values(yaml.safe_load(content), "filename"):
            secret = mounted(container, pod, str(name).rpartition("/")[0])
            if secret is None or "secret" not in secret:
                yield f"{pod.name}: Envoy reads {name}, where no Secret is mounted"


def _neighbours(tree: Any) -> Iterator[tuple[str, int]]:
    for cluster in tree.get("static_resources", {}).get("clusters", ()):
        for address in _values(cluster["load_assignment"], "socket_address"):
            if not address["address"][0].isdigit():
                yield address["address"], address["port_value"]


def _identities(tree: Any) -> set[str]:
    return {str(text) for text in _values(tree, "exact") if str(text).startswith("spiffe://")}


def _values(tree: Any, key: str) -> Iterator[Any]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == key:
                yield value
            yield from _values(value, key)
    elif isinstance(tree, list):
        for value in tree:
            yield from _values(value, key)
