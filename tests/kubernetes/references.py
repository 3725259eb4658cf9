"""Checks: whatever an object names is there. Each returns what is wrong, in words; nothing for a sound rendering."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from router_svc.upstreams.discovery import parse_targets
from tests.kubernetes.envoy import envoys, listeners
from tests.kubernetes.manifests import Manifest, Objects, PodTemplate, service_of

CLIENTS = {"lensmesh/client": "true"}
"""Pods of whoever calls; none is ours."""


def selectors(objects: Objects) -> Iterator[str]:
    """Selectors meet the pods they are for."""
    for owner in objects.of("Deployment", "StatefulSet"):
        labels = owner["spec"]["template"]["metadata"]["labels"]
        if not owner["spec"]["selector"]["matchLabels"].items() <= labels.items():
            yield f"{owner['kind']} {_name(owner)} does not select its own pods"
    for one in objects.of("Service", "PodDisruptionBudget"):
        selector = one["spec"]["selector"]
        found = objects.selected(selector.get("matchLabels", selector))
        if len(found) != 1:
            yield f"{one['kind']} {_name(one)} selects {len(found)} kinds of pods"
    for one in objects.of("PodMonitor"):
        pods = [pod for pod in objects.pods() if matches(one["spec"]["selector"], pod.labels)]
        for endpoint in one["spec"]["podMetricsEndpoints"]:
            if not any(endpoint["port"] in port_names(pod) for pod in pods):
                yield f"PodMonitor {_name(one)} finds no port {endpoint['port']}"
    for pod in objects.pods():
        for spread in pod.spec.get("topologySpreadConstraints", ()):
            if not matches(spread["labelSelector"], pod.labels):
                yield f"{pod.name} is spread among pods that it does not belong to"
            missing = [key for key in spread.get("matchLabelKeys", ()) if key not in (*pod.labels, "pod-template-hash")]
            if missing:
                yield f"{pod.name} is spread by labels that it lacks: {missing}"
    for policy in objects.of("NetworkPolicy"):
        for selector in policy_selectors(policy["spec"]):
            if selector and selector.get("matchLabels") != CLIENTS:
                for labels in _wanted(selector):
                    if not objects.selected(labels):
                        yield f"NetworkPolicy {_name(policy)} names pods that nobody makes: {labels}"


def references(objects: Objects) -> Iterator[str]:
    """ConfigMaps, Secrets with their keys, ServiceAccounts, claims, volumes, and what autoscalers scale."""
    made = {one["spec"]["secretName"] for one in objects.of("Certificate")}
    for pod in objects.pods():
        account = pod.spec.get("serviceAccountName")
        if account and not objects.named("ServiceAccount", account):
            yield f"{pod.name}: no ServiceAccount {account}"
        volumes = {volume["name"] for volume in pod.volumes()}
        for container in pod.containers:
            for mount in container.get("volumeMounts", ()):
                if mount["name"] not in volumes:
                    yield f"{pod.name}: {container['name']} mounts {mount['name']}, which is no volume"
            for kind, name, key in _sources(container):
                if not objects.named(kind, name):
                    yield f"{pod.name}: no {kind} {name}"
                elif key and key not in objects.data(kind, name):
                    yield f"{pod.name}: {kind} {name} has no {key}"
        claims = [claim["metadata"]["name"] for claim in pod.owner["spec"].get("volumeClaimTemplates", ())]
        for volume in pod.volumes():
            kind, name = _source(volume)
            if kind == "Secret" and name in made:
                continue
            if kind and not objects.named(kind, name) and name not in claims:
                yield f"{pod.name}: volume {volume['name']}: no {kind} {name}"
    for one in objects.of("StatefulSet"):
        if not objects.named("Service", one["spec"]["serviceName"]):
            yield f"StatefulSet {_name(one)}: no Service {one['spec']['serviceName']}"
    for one in objects.of("HorizontalPodAutoscaler", "ScaledObject"):
        target = one["spec"]["scaleTargetRef"]
        scaled = objects.named(target.get("kind", "Deployment"), target["name"])
        if scaled is None:
            yield f"{one['kind']} {_name(one)} scales {target['name']}, which is not there"
        elif "replicas" in scaled["spec"]:
            yield f"{target['name']} has a number of replicas and an autoscaler"
    for one in objects.of("Certificate"):
        if not objects.named(one["spec"]["issuerRef"]["kind"], one["spec"]["issuerRef"]["name"]):
            yield f"Certificate {_name(one)}: no issuer {one['spec']['issuerRef']['name']}"


def targets(objects: Objects) -> Iterator[str]:
    """What settings name as an address answers there: a Service's port, the Envoy beside, a socket of the same pod."""
    for pod in objects.pods():
        for container in pod.containers:
            if not service_of(container):
                continue
            environment = objects.environment(container)
            for name, value in environment.items():
                wanted = parse_targets(value) if name.endswith(("_TARGET", "_TARGETS")) else ()
                if name.endswith("_STORE_URL"):
                    address = urlsplit(value)
                    wanted = (f"{address.hostname}:{address.port}",)
                for target in wanted:
                    if problem := _unanswered(target, pod, objects):
                        yield f"{pod.name}: {name}: {problem}"


def _unanswered(target: str, pod: PodTemplate, objects: Objects) -> str:
    if target.startswith("unix:"):
        sockets = {objects.environment(one).get(f"LENSMESH_{service_of(one).upper()}_LISTEN") for one in pod.containers}
        return "" if target in sockets else f"no container of the pod listens on {target}"
    host, _, port = target.rpartition(":")
    if host == "127.0.0.1":
        listening = {place for tree in envoys(pod, objects) for place in listeners(tree)}
        return "" if (host, int(port)) in listening else f"no Envoy of the pod listens on {target}"
    service = objects.named("Service", host)
    if service is None:
        return "" if _reaches_out(pod, int(port), objects) else f"there is no Service {host}"
    ports = [one["port"] for one in service["spec"]["ports"]]
    return "" if int(port) in ports else f"Service {host} has the ports {ports}, not {port}"


def _reaches_out(pod: PodTemplate, port: int, objects: Objects) -> bool:
    """Whether a policy lets the pod reach addresses outside the cluster at this port: then the host is not ours."""
    return any(
        matches(policy["spec"]["podSelector"], pod.labels)
        and any("ipBlock" in peer for peer in rule.get("to", ()))
        and port in [one["port"] for one in rule["ports"]]
        for policy in objects.of("NetworkPolicy")
        for rule in policy["spec"].get("egress", ())
    )


def matches(selector: Manifest, labels: Any) -> bool:
    """A label selector's answer."""
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    return all(
        expression["operator"] == "In" and labels.get(expression["key"]) in expression["values"]
        for expression in selector.get("matchExpressions", ())
    )


def port_names(pod: PodTemplate) -> dict[str, int]:
    """A pod's ports by name."""
    return {port["name"]: port["containerPort"] for one in pod.containers for port in one.get("ports", ())}


def policy_selectors(spec: Manifest) -> Iterator[Manifest]:
    """The selectors of this namespace's pods in a policy."""
    yield spec["podSelector"]
    for side, peers in (("ingress", "from"), ("egress", "to")):
        for rule in spec.get(side, ()):
            for peer in rule.get(peers, ()):
                if "podSelector" in peer and "namespaceSelector" not in peer:
                    yield peer["podSelector"]


def _wanted(selector: Manifest) -> Iterator[dict[str, str]]:
    yield selector.get("matchLabels", {})
    for expression in selector.get("matchExpressions", ()):
        for value in expression["values"]:
            yield {expression["key"]: value}


def _sources(container: Manifest) -> Iterator[tuple[str, str, str]]:
    for source in container.get("envFrom", ()):
        kind = "ConfigMap" if "configMapRef" in source else "Secret"
        yield kind, (source.get("configMapRef") or source["secretRef"])["name"], ""
    for variable in container.get("env", ()):
        for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
            if field in variable.get("valueFrom", {}):
                reference = variable["valueFrom"][field]
                yield kind, reference["name"], reference["key"]


def _source(volume: Manifest) -> tuple[str, str]:
    if "configMap" in volume:
        return "ConfigMap", volume["configMap"]["name"]
    if "secret" in volume:
        return "Secret", volume["secret"]["secretName"]
    if "persistentVolumeClaim" in volume:
        return "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    return "", ""


def _name(one: Manifest) -> str:
    return str(one["metadata"]["name"])
