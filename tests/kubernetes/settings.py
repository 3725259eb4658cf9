"""Checks: every variable is a setting of the code, its value is read, and the numbers fit together."""

import os
from collections.abc import Iterator
from unittest.mock import patch

from caption_svc.settings import CaptionSettings
from encoder_svc.settings import EncoderSettings
from http_svc.settings import HttpSettings
from lensmesh_chassis.process.server import _STOP_SECONDS
from lensmesh_chassis.settings import ServiceSettings, SettingsError, load_settings
from lensmesh_chassis.telemetry.tracing import _FLUSH_SECONDS
from router_svc.settings import RouterSettings
from search_svc.settings import SearchSettings
from tests.kubernetes.manifests import Manifest, Objects, PodTemplate, service_of, size

CLASSES: dict[str, type[ServiceSettings]] = {
    "router": RouterSettings,
    "encoder": EncoderSettings,
    "caption": CaptionSettings,
    "search": SearchSettings,
    "http": HttpSettings,
}
_OTHERS = ("OTEL_", "HF_", "OMP_WAIT_POLICY", "HOME", "POD_NAMESPACE", "NODE_NAME", "LENSMESH_TRACES_")
MIB = 2**20


def load(service: str, environment: dict[str, str]) -> ServiceSettings:
    """The settings that a service would start with. Raises SettingsError."""
    with patch.dict(os.environ, environment, clear=True):
        return load_settings(CLASSES[service])


def settings(objects: Objects) -> Iterator[str]:
    """The services start with what the manifests tell them, and mean it."""
    for pod in objects.pods():
        for container in pod.containers:
            service = service_of(container)
            if not service:
                continue
            environment = objects.environment(container)
            for name in environment:
                if not name.startswith((f"LENSMESH_{service.upper()}_", *_OTHERS)):
                    yield f"{pod.name}: {name} means nothing to {service}"
            try:
                loaded = load(service, environment)
            except SettingsError as error:
                yield f"{pod.name}: {error}"
                continue
            yield from _numbers(pod, container, loaded)
            yield from _memory(pod, container, service, loaded)


def _numbers(pod: PodTemplate, container: Manifest, loaded: ServiceSettings) -> Iterator[str]:
    where = f"{pod.name}: {container['name']}"
    first = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    needed = first + loaded.drain_seconds + _STOP_SECONDS + _FLUSH_SECONDS
    if pod.spec["terminationGracePeriodSeconds"] < needed:
        yield f"{where} needs {needed:g} s to end and gets {pod.spec['terminationGracePeriodSeconds']}"
    probe = container["startupProbe"]
    start = probe["failureThreshold"] * probe["periodSeconds"]
    # Kubernetes' default.
    deadline = pod.owner["spec"].get("progressDeadlineSeconds", 600)
    if start >= deadline:
        yield f"{where} may start for {start} s, and its rollout is called failed after {deadline}"
    if not loaded.instance.startswith("some-name"):
        yield f"{where} is not named after its pod"


def _memory(pod: PodTemplate, container: Manifest, service: str, loaded: ServiceSettings) -> Iterator[str]:
    """The limit has room for what the settings let in."""
    if isinstance(loaded, RouterSettings):
        needed = 100 * MIB + 10 * loaded.all_in_flight_bytes
    elif isinstance(loaded, EncoderSettings | CaptionSettings):
        # Libraries, and both lanes of the queue.
        needed = 850 * MIB + 2 * loaded.max_queue_bytes
    else:
        needed = 200 * MIB
    limit = size(container["resources"]["limits"]["memory"])
    if limit < needed:
        yield f"{pod.name}: {service} may take {needed / MIB:.0f} MiB and has {limit / MIB:.0f}"


def numbers(objects: Objects) -> Iterator[str]:
    """Connections that Search replicas may open fit into PostgreSQL's."""
    store = objects.named("StatefulSet", "pgvector")
    if store is None:
        return
    arguments = store["spec"]["template"]["spec"]["containers"][0]["args"]
    most = next(int(one.rpartition("=")[2]) for one in arguments if "max_connections" in one)
    search = objects.pod("search")
    container = next(one for one in search.containers if service_of(one) == "search")
    scaler = objects.named("HorizontalPodAutoscaler", "search")
    # One more during a rollout.
    replicas = 1 + (scaler["spec"]["maxReplicas"] if scaler else search.owner["spec"].get("replicas", 1))
    try:
        loaded = load("search", objects.environment(container))
    except SettingsError:
        return  # said by `settings`
    assert isinstance(loaded, SearchSettings)
    # PostgreSQL keeps three for its administrator; a backup takes one.
    if replicas * loaded.pool_size + 4 > most:
        yield f"{replicas} replicas of search may open {replicas * loaded.pool_size} connections of {most}"
