"""What the pages about Kubernetes show can be done: overlays render and are wired, paths and names exist."""

import re
import tempfile
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.kubernetes import arrows, envoy, ports, references, settings
from tests.kubernetes.manifests import Objects
from tests.kubernetes.rendering import FOLDERS, built, render, with_secrets
from tests.kubernetes.schemas import CUSTOM, VERSION

ROOT = Path(__file__).parents[2]
PAGES = ("docs/operations.md", "docs/istio.md", "docs/linkerd.md", "deploy/kubernetes/README.md")
OVERLAY = re.compile(r"```yaml\n# deploy/kubernetes/overlays/(\w+)/kustomization\.yaml\n(.*?)```", re.DOTALL)
OVERLAYS = {name: text for page in PAGES for name, text in OVERLAY.findall((ROOT / page).read_text())}


@pytest.mark.parametrize("name", ["istio", "linkerd", "ours"])
def test_an_overlay_of_a_page_is_sound(name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="lensmesh-page-") as folder:
        objects = Objects(with_secrets(built(OVERLAYS[name], Path(folder))))
    for check in (
        references.selectors,
        references.references,
        references.targets,
        ports.ports,
        settings.settings,
        settings.numbers,
        arrows.policies,
        envoy.sidecars,
    ):
        assert list(check(objects)) == [], check.__name__
    for one in objects.all:
        if one["kind"] not in CUSTOM:
            kubernetes_validate.validate(one, VERSION, strict=True)


def test_no_overlay_of_a_page_is_left_out() -> None:
    assert set(OVERLAYS) == {"istio", "linkerd", "ours"}


def test_a_mesh_leaves_out_what_must_not_be_in_it() -> None:
    """Pods that end, or that speak first, are not injected; those of the services are."""
    for name, sign in (("istio", "sidecar.istio.io/inject"), ("linkerd", "linkerd.io/inject")):
        with tempfile.TemporaryDirectory(prefix="lensmesh-page-") as folder:
            objects = Objects(built(OVERLAYS[name], Path(folder)))
        for pod in objects.pods():
            marks = {**pod.labels, **pod.annotations}
            injected = marks.get(sign) == "enabled" if name == "linkerd" else marks.get(sign) != "false"
            assert injected == (pod.owner["kind"] == "Deployment"), pod.name


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_yaml_is_yaml(page: str) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(), re.DOTALL):
        assert all(isinstance(one, dict) for one in yaml.safe_load_all(block))


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page: str) -> None:
    """Written from the repository's root, or from deploy/kubernetes/."""
    text = (ROOT / page).read_text()
    named = set(re.findall(r"\bdeploy/[\w./-]*\w", text))
    named |= {
        f"deploy/kubernetes/{path}" for path in re.findall(r"`((?:components|overlays|examples|base)/[\w./-]*\w)", text)
    }
    missing = {
        path for path in named if not (ROOT / path).exists() and not re.search(r"overlays/(ours|istio|linkerd)", path)
    }
    assert not missing


def test_commands_name_what_is_there() -> None:
    there = {
        f"{one['kind'].lower()} {one['metadata']['name']}"
        for variant in FOLDERS
        for one in with_secrets(render(variant))
    } | {"statefulset qdrant"}
    commands = [
        line for line in (ROOT / "docs/operations.md").read_text().splitlines() if "kubectl -n lensmesh" in line
    ]
    named = {
        f"{kind} {name}"
        for line in commands
        for kind, name in re.findall(
            r"\b(deployment|statefulset|service|cronjob|secret)(?: generic| tls|)[ /]([\w-]+)", line
        )
    }
    assert len(named) > 8
    assert named <= there
