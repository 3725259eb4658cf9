"""The wheel, built once for the tests of a file."""

import sys
from pathlib import Path

import pytest

from tests.install.commands import UV, run
from tests.support.tools import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    build: list[str | Path] = [
        UV,
        "build",
        "--quiet",
        "--wheel",
        "--no-build-isolation",
        "--python",
        sys.executable,
        "--out-dir",
        out,
    ]
    run([*build, ROOT], cwd=out)
    return next(out.glob("*.whl"))
