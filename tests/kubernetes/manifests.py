"""Rendered objects, and the questions that several checks ask of them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
SERVICES = ("router", "encoder", "caption", "search", "http")


@dataclass(frozen=True)
class PodTemplate:
    """Pods that an object makes."""

    owner: Manifest
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Manifest

    @property
    def name(self) -> str:
        """KIND/NAME of its owner."""
        return f"{self.owner['kind']}/{self.owner['metadata']['name']}"

    @property
    def component(self) -> str:
        """What it is called in the diagram."""
        return self.labels.get("app.kubernetes.io/component") or self.owner["metadata"]["name"]

    @property
    def containers(self) -> list[Manifest]:
        """All of them, those that run beside the application included."""
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]

    def volumes(self) -> list[Manifest]:
        """Its volumes, with those that a StatefulSet makes."""
        claims = self.owner["spec"].get("volumeClaimTemplates", ())
        made = [
            {"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
            for claim in claims
        ]
        return [*self.spec.get("volumes", ()), *made]


@dataclass(frozen=True)
class Objects:
    """One rendering."""

    all: list[Manifest]

    def of(self, *kinds: str) -> list[Manifest]:
        """Those of some kinds."""
        return [one for one in self.all if one["kind"] in kinds]

    def named(self, kind: str, name: str) -> Manifest | None:
        """One of them."""
        return next((one for one in self.of(kind) if one["metadata"]["name"] == name), None)

    def get(self, kind: str, name: str) -> Manifest:
        """One that has to be there."""
        found = self.named(kind, name)
        assert found is not None, f"no {kind} {name}"
        return found

    def pods(self) -> list[PodTemplate]:
        """Everything that makes pods."""
        return list(_templates(self.all))

    def pod(self, component: str) -> PodTemplate:
        """The template of one component."""
        return next(one for one in self.pods() if one.component == component)

    def selected(self, labels: Mapping[str, str]) -> list[PodTemplate]:
        """The templates that carry `labels`."""
        return [pod for pod in self.pods() if labels.items() <= pod.labels.items()]

    def data(self, kind: str, name: str) -> Mapping[str, str]:
        """Content of a ConfigMap or a Secret, decoded; empty where there is none."""
        found = self.named(kind, name) or {}
        plain = {**(found.get("stringData") or {})} if kind == "Secret" else {**(found.get("data") or {})}
        if kind == "Secret":
            plain |= {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}
        return plain

    def environment(self, container: Manifest) -> dict[str, str]:
        """What a container's process would find in its environment."""
        found: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            if "configMapRef" in source:
                found |= self.data("ConfigMap", source["configMapRef"]["name"])
            else:
                found |= self.data("Secret", source["secretRef"]["name"])
        for variable in container.get("env", ()):
            found[variable["name"]] = self._value(variable, container)
        return found

    def _value(self, variable: Manifest, container: Manifest) -> str:
        if "value" in variable:
            return str(variable["value"])
        source = variable["valueFrom"]
        if "fieldRef" in source:
            return "some-" + str(source["fieldRef"]["fieldPath"]).rpartition(".")[2].lower()
        if "resourceFieldRef" in source:
            # Rounded up, as Kubernetes does with the default divisor.
            return str(max(1, -(-millis(container["resources"]["requests"]["cpu"]) // 1000)))
        reference = source.get("secretKeyRef") or source["configMapKeyRef"]
        kind = "Secret" if "secretKeyRef" in source else "ConfigMap"
        return self.data(kind, reference["name"]).get(reference["key"], "")


def _templates(objects: list[Manifest]) -> Iterator[PodTemplate]:
    for one in objects:
        spec = one.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template") if isinstance(spec, dict) else None
        if one["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob") and template:
            metadata = template.get("metadata", {})
            yield PodTemplate(one, metadata.get("labels", {}), metadata.get("annotations", {}), template["spec"])


def service_of(container: Manifest) -> str:
    """Which of the five services a container runs; empty for any other program."""
    name = str(container["image"]).rpartition("/")[2].partition(":")[0].removeprefix("lensmesh-")
    # A Job that fetches weights runs another program out of the same image.
    return name if name in SERVICES and "command" not in container else ""


def millis(cpu: Any) -> int:
    """A quantity of CPU in thousandths."""
    text = str(cpu)
    return int(text[:-1]) if text.endswith("m") else int(float(text) * 1000)


def size(quantity: Any) -> int:
    """A quantity of memory in bytes."""
    text = str(quantity)
    for suffix, factor in (("Ki", 2**10), ("Mi", 2**20), ("Gi", 2**30), ("k", 10**3), ("M", 10**6), ("G", 10**9)):
        if text.endswith(suffix):
            return int(float(text.removesuffix(suffix)) * factor)
    return int(text)
