"""Checks: each port that somebody names is one that somebody listens on."""

from collections.abc import Iterator

from http_svc.app import HTTP_SERVICE
from lensmesh_chassis.process.addresses import parse_address, parse_addresses
from lensmesh_chassis.process.health import LIVE
from tests.kubernetes.manifests import Manifest, Objects, PodTemplate, service_of
from tests.kubernetes.references import port_names

CONTRACTS = {
    "router": "lensmesh.router.v1.RouterService",
    "encoder": "lensmesh.encoder.v1.EncoderService",
    "caption": "lensmesh.caption.v1.CaptionerService",
    "search": "lensmesh.search.v1.SearchService",
    "http": HTTP_SERVICE,
}
_LOCAL = ("127.0.0.1", "localhost", "::1")


def ports(objects: Objects) -> Iterator[str]:
    """Services, probes and settings agree with the containers' ports."""
    for pod in objects.pods():
        numbers = [port["containerPort"] for one in pod.containers for port in one.get("ports", ())]
        for number in {number for number in numbers if numbers.count(number) > 1}:
            yield f"{pod.name}: port {number} is opened twice"
        for container in pod.containers:
            yield from _probes(pod, container)
            if service_of(container):
                yield from _settings(pod, container, objects)
    for service in objects.of("Service"):
        name = service["metadata"]["name"]
        for pod in objects.selected(service["spec"]["selector"]):
            for port in service["spec"]["ports"]:
                number = port_names(pod).get(port["targetPort"])
                if number is None:
                    yield f"Service {name}: no port {port['targetPort']} in {pod.name}"
                elif service["spec"].get("clusterIP") == "None" and number != port["port"]:
                    # Nobody translates: clients of a headless Service connect to the pods themselves.
                    yield f"Service {name}: is headless and says {port['port']}, the pods have {number}"


def _probes(pod: PodTemplate, container: Manifest) -> Iterator[str]:
    own = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
    service = service_of(container)
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container.get(kind)
        where = f"{pod.name}: {kind} of {container['name']}"
        if probe is None:
            if service or "httpGet" in container.get("readinessProbe", {}):
                yield f"{where} is missing"
        elif "grpc" in probe:
            if probe["grpc"]["port"] not in own.values():
                yield f"{where} asks port {probe['grpc']['port']}, which it does not open"
            asked = probe["grpc"].get("service", "")
            if asked not in ("", LIVE, CONTRACTS.get(service)):
                yield f"{where} asks for {asked}, which {service} does not serve"
            if (asked == LIVE) != (kind == "livenessProbe") and kind != "startupProbe":
                yield f"{where} asks for {asked}: readiness is the service's, liveness the process'"
        elif "httpGet" in probe:
            port = probe["httpGet"]["port"]
            if port not in own and port not in own.values():
                yield f"{where} asks port {port}, which it does not open"


def _settings(pod: PodTemplate, container: Manifest, objects: Objects) -> Iterator[str]:
    """A service listens on what its container opens, and opens what it listens on."""
    environment = objects.environment(container)
    prefix = f"LENSMESH_{service_of(container).upper()}_"
    listening: dict[str, set[int]] = {"listen": set(), "health_listen": set(), "metrics_listen": set()}
    for setting, found in listening.items():
        for address in parse_addresses(environment.get(prefix + setting.upper(), "missing:0")):
            if not address.path and address.host not in _LOCAL:
                found.add(address.port)
    opened = {port["containerPort"] for port in container.get("ports", ())}
    reached = set().union(*listening.values())
    if reached != opened:
        yield f"{pod.name}: {container['name']} listens on {sorted(reached)} and opens {sorted(opened)}"
    health = parse_address(environment.get(prefix + "HEALTH_LISTEN", "missing:0")).port
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        port = container.get(kind, {}).get("grpc", {}).get("port", health)
        if port != health:
            yield f"{pod.name}: {kind} of {container['name']} asks {port}, health is told on {health}"
