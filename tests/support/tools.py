"""Real components that tests run against: Jaeger, Prometheus, a kube-apiserver and so on.

Where one is missing its tests are left out, and the end of the run says which and how to get it. With
LENSMESH_TEST_ALL_TOOLS=1, as in CI, a missing one fails instead: nothing is left out there.
"""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[2]
BUILT = ROOT / ".tools" / "bin"
"""The folder into which `make tools` and `make test-tools` put what they build."""

_MADE = "run `make tools` (needs Go)"
_MADE_FOR_TESTS = "run `make test-tools` (needs Go)"
HOW = {
    "jaeger": _MADE,
    "grpcurl": _MADE,
    "kube-apiserver": _MADE_FOR_TESTS,
    "kubectl": _MADE_FOR_TESTS,
    "go": "install Go from go.dev",
    "gofmt": "install Go from go.dev",
    "node": "install Node 20 or newer from nodejs.org",
    "npm": "it comes with Node: install that from nodejs.org",
    "etcd": "install Debian's etcd-server",
    "prometheus": "install Debian's prometheus",
    "promtool": "install Debian's prometheus",
    "buildah": "install Debian's buildah",
    "debootstrap": "install Debian's debootstrap",
    "jq": "install Debian's jq",
    "chromium": "install Debian's chromium",
    "curl": "install Debian's curl",
    "pgbouncer": "install Debian's pgbouncer",
    "redis-server": "install Debian's redis-server",
    "nginx": "install Debian's nginx-light",
    "apt-get": "only Debian and what descends from it have it",
    "dpkg": "only Debian and what descends from it have it",
}


def find(name: str) -> Path | None:
    """The program `name`: what the project built, else what the path has; None where there is none."""
    if (built := BUILT / name).is_file():
        return built
    # Debian keeps what only root needs, debootstrap among it, out of other users' path.
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    return Path(found) if found else None


def all_wanted() -> bool:
    """Whether a missing program is a failure."""
    return os.environ.get("LENSMESH_TEST_ALL_TOOLS", "") not in ("", "0")


def need(name: str) -> Path:
    """The program `name`. Leaves the test out, or fails it where all are wanted, if it is not on this machine."""
    found = find(name)
    if found is None:
        lacking(f"{name} is not on this machine: {HOW[name]}")
    return found


def lacking(message: str) -> NoReturn:
    """Leave the test out, or fail it where all are wanted: the machine lacks what `message` names."""
    if all_wanted():
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
