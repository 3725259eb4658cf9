"""A real API server takes everything: in a dry run, for real, and every pod that controllers would make of it."""

import copy
from typing import Any

import pytest
import yaml

from tests.kubernetes import references
from tests.kubernetes.apiserver import Cluster
from tests.kubernetes.manifests import Manifest, Objects, PodTemplate
from tests.kubernetes.rendering import FOLDERS, KUBERNETES, VARIANTS, Variant, render, with_secrets

APPLY = ("apply", "--server-side", "--filename=-")


def name_of(variant: Variant) -> str:
    """A namespace of its own, so that no variant finds what another one left."""
    return f"variant-{VARIANTS.index(variant)}"


def pods(objects: Objects, namespace: str) -> list[Manifest]:
    """A pod of each template, as a controller would make it."""
    return [pod_of(template, namespace) for template in objects.pods()]


def pod_of(template: PodTemplate, namespace: str) -> Manifest:
    """The first pod of a template."""
    spec = {**copy.deepcopy(template.spec), "volumes": template.volumes()}
    for volume in spec["volumes"]:
        claim = volume.get("persistentVolumeClaim", {})
        if template.owner["kind"] == "StatefulSet" and claim.get("claimName") == volume["name"]:
            claim["claimName"] = f"{volume['name']}-{template.owner['metadata']['name']}-0"
    name = f"{template.owner['kind'].lower()}-{template.owner['metadata']['name']}"
    metadata = {"name": name, "namespace": namespace, "labels": dict(template.labels)}
    metadata["annotations"] = dict(template.annotations)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def default_account(namespace: str) -> Manifest:
    """A controller makes it in every namespace, and none runs here."""
    metadata = {"name": "default", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata, "automountServiceAccountToken": False}


def test_everything_is_taken(cluster: Cluster, variant: Variant) -> None:
    """Whatever the server would warn of, such as a deprecated field, fails too."""
    namespace = name_of(variant)
    objects = Objects(with_secrets(render(variant, namespace)))
    (own,) = objects.of("Namespace")
    assert own["metadata"]["name"] == namespace
    assert own["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert cluster.kubectl(*APPLY, objects=[own]).errors == ""
    cluster.kubectl(*APPLY, objects=[default_account(namespace)])
    tried = cluster.kubectl(*APPLY, "--dry-run=server", objects=objects.all)
    assert tried.errors == ""
    assert "Deployment" not in cluster.kubectl("get", "deployments", f"--namespace={namespace}", "--output=json").out
    done = cluster.kubectl(*APPLY, objects=objects.all)
    assert done.errors == ""
    # A second time nothing is new: no field fights with the server's defaults.
    before = generations(cluster, namespace)
    cluster.kubectl(*APPLY, objects=objects.all)
    assert generations(cluster, namespace) == before
    made = cluster.kubectl("create", "--filename=-", objects=pods(objects, namespace))
    assert made.errors == ""
    assert len(made.out.splitlines()) == len(objects.pods())


@pytest.mark.parametrize(
    ("path", "overlay"),
    [
        ("components/pgvector/restore.job.yaml", "overlays/dev"),
        ("base/smoke.job.yaml", "overlays/dev"),
        ("components/envoy-sidecar/smoke.job.yaml", "overlays/prod"),
    ],
)
def test_jobs_that_people_create_by_hand_are_taken(cluster: Cluster, path: str, overlay: str) -> None:
    """Those of docs/operations.md, beside what they name."""
    variant = next(one for one in FOLDERS if one.name == overlay)
    namespace = name_of(variant)
    there = Objects(with_secrets(render(variant, namespace)))
    job = yaml.safe_load((KUBERNETES / path).read_text())
    job["metadata"] |= {"namespace": namespace, "name": job["metadata"].pop("generateName", "restore-") + "by-hand"}
    objects = Objects([*there.all, job])
    assert list(references.references(objects)) == []
    assert list(references.selectors(objects)) == []
    own = [there.get("Namespace", namespace), default_account(namespace), *there.of("ServiceAccount")]
    cluster.kubectl(*APPLY, objects=own)
    assert cluster.kubectl("create", "--filename=-", objects=[job]).errors == ""
    pod = next(template for template in objects.pods() if template.owner is job)
    assert cluster.kubectl("create", "--filename=-", objects=[pod_of(pod, namespace)]).errors == ""


def generations(cluster: Cluster, namespace: str) -> dict[str, int]:
    """How often what was asked for has changed, by kind and name."""
    kinds = "deployments,statefulsets,networkpolicies,horizontalpodautoscalers,cronjobs"
    found = cluster.kubectl("get", kinds, f"--namespace={namespace}", "--output=json").json()
    return {f"{one['kind']}/{one['metadata']['name']}": one["metadata"]["generation"] for one in found["items"]
            if "generation" in one["metadata"]}  # fmt: skip


def broken(objects: Objects, change: str) -> Manifest:
    """The Router's pod with one protection taken away, or one thing wrong."""
    pod = pod_of(objects.pod("router"), name_of(FOLDERS[0]))
    pod["metadata"]["name"] = "broken"
    spec: Any = pod["spec"]
    match change:
        case "root":
            spec["securityContext"] |= {"runAsNonRoot": False, "runAsUser": 0}
        case "privileges":
            spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
        case "capabilities":
            del spec["containers"][0]["securityContext"]["capabilities"]
        case "seccomp":
            del spec["securityContext"]["seccompProfile"]
        case "host":
            spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}})
        case "account":
            spec["serviceAccountName"] = "nobody"
        case "field":
            spec["terminationGracePeriod"] = 60
    return pod


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("root", "runAsNonRoot != true"),
        ("privileges", "allowPrivilegeEscalation != false"),
        ("capabilities", "unrestricted capabilities"),
        ("seccomp", "seccompProfile"),
        ("host", "hostPath"),
        ("account", 'service account lensmesh/nobody: serviceaccount "nobody" not found'),
        ("field", 'unknown field "terminationGracePeriod"'),
    ],
)
def test_what_must_be_refused_is(cluster: Cluster, change: str, said: str) -> None:
    """So a pod that was taken above has all of it."""
    variant = next(one for one in FOLDERS if one.name == "overlays/dev")
    namespace = name_of(variant)
    objects = Objects(with_secrets(render(variant, namespace)))
    cluster.kubectl(*APPLY, objects=[objects.get("Namespace", namespace), default_account(namespace)])
    cluster.kubectl(*APPLY, objects=objects.of("ServiceAccount"))
    pod = broken(objects, change)
    pod["metadata"]["namespace"] = namespace
    answer = cluster.kubectl("create", "--validate=strict", "--filename=-", objects=[pod], check=False)
    assert answer.code
    assert said.replace("lensmesh/nobody", f"{namespace}/nobody") in answer.errors
