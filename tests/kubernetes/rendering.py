"""What is rendered: every overlay, every example, and each component on the base."""

import functools
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lensmesh_local.sidecars.certificates import Authority
from tests.support.tools import need

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
SECRETS = KUBERNETES / "overlays" / "prod" / "secrets.example.yaml"
"""Examples of the secrets that whoever installs makes beforehand."""


Manifest = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """A folder as it is, or the base with some components."""

    name: str
    components: tuple[str, ...] = ()

    @property
    def is_folder(self) -> bool:
        """Whether it lies in the repository as it is."""
        return not self.components


FOLDERS = tuple(
    Variant(f"{kind}/{path.name}")
    for kind in ("overlays", "examples")
    for path in sorted((KUBERNETES / kind).iterdir())
)
_TOGETHER = (
    # Each store, each autoscaler, each edge, with and without the rest.
    ("external-store",),
    ("pgvector", "autoscale"),
    ("external-store", "weights", "redis-cache"),
    ("external-store", "observability"),
    ("external-store", "edge-plain"),
    ("external-store", "certificates", "envoy-sidecar"),
    ("external-store", "gpu", "gpu-shared"),
    ("qdrant", "weights", "gpu", "autoscale-keda", "observability", "edge-plain", "redis-cache"),
    ("pgvector", "certificates", "envoy-sidecar", "edge", "gpu", "observability", "observability-sidecars"),
)
COMBINATIONS = tuple(Variant("+".join(names), ("namespace", *names)) for names in _TOGETHER)
VARIANTS = (*FOLDERS, *COMBINATIONS)
COMPONENTS = tuple(sorted(path.name for path in (KUBERNETES / "components").iterdir()))


def kustomization(variant: Variant, namespace: str = "") -> str:
    """A kustomization of `variant`, as if it lay beside the overlays; in `namespace`, where one is given."""
    tree: Manifest = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    if variant.is_folder:
        tree["resources"] = [f"../../{variant.name}"]
    else:
        tree["resources"] = ["../../base"]
        tree["components"] = [f"../../components/{name}" for name in variant.components]
        tree["namespace"] = "lensmesh"
    if namespace:
        tree["namespace"] = namespace
    return yaml.safe_dump(tree)


def built(text: str, folder: Path) -> list[Manifest]:
    """What a kustomization of a folder beside the overlays makes, built in `folder`, which lies anywhere."""
    to = os.path.relpath(KUBERNETES.resolve(), folder.resolve())
    (folder / "kustomization.yaml").write_text(text.replace("../../", f"{to}/"))
    done = subprocess.run([str(need("kubectl")), "kustomize", str(folder)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "kustomize warns: " + done.stderr
    return list(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))


@functools.cache
def _rendered(variant: Variant, namespace: str) -> str:
    """As JSON, which is read a hundred times faster."""
    with tempfile.TemporaryDirectory(prefix="lensmesh-kustomize-") as folder:
        return json.dumps(built(kustomization(variant, namespace), Path(folder)))


def render(variant: Variant, namespace: str = "") -> list[Manifest]:
    """Its objects, a fresh copy each time."""
    objects: list[Manifest] = json.loads(_rendered(variant, namespace))
    return objects


def with_secrets(objects: list[Manifest]) -> list[Manifest]:
    """Those objects, and the Secrets that they need and do not contain, out of the example."""
    there = {(one["kind"], one["metadata"]["name"]) for one in objects}
    namespace = next((one["metadata"]["name"] for one in objects if one["kind"] == "Namespace"), "lensmesh")
    text = " ".join(map(str, objects))
    made = []
    for secret in yaml.safe_load_all(SECRETS.read_text()):
        name = secret["metadata"]["name"]
        if ("Secret", name) not in there and f"'{name}'" in text:
            secret["metadata"]["namespace"] = namespace
            if name == "search-store" and ("Service", "qdrant") in there:
                secret["stringData"] = {"LENSMESH_SEARCH_STORE_URL": "qdrant://qdrant:6334"}
            if secret.get("type") == "kubernetes.io/tls":
                secret["stringData"] = _certificate()
            made.append(secret)
    return objects + made


@functools.cache
def _certificate() -> dict[str, str]:
    """A real one: the server looks into it."""
    with tempfile.TemporaryDirectory(prefix="lensmesh-certificate-") as folder:
        files = Authority().issue(Path(folder), "", names=["lensmesh.example.org"])
        return {"tls.crt": files.certificate.read_text(), "tls.key": files.key.read_text()}
