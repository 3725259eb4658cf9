"""A mesh of mocks that sends its traces to a real Jaeger."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.meshes import PATIENCE_S, Mesh, environment, mock_mesh
from tests.support.tools import need
from tests.tracing.traces import Jaeger


@dataclass(frozen=True)
class Traced:
    """A mesh, and the Jaeger that its traces go to."""

    mesh: Mesh
    jaeger: Jaeger
    environment: dict[str, str]
    """Variables by which a client sends its own spans there, all of them."""

    def lensmesh(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """One run of the command, traced."""
        return self._run("lensmesh_cli", *arguments)

    def client(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One run of tests/tracing/client_main.py, traced; prints the id of its trace."""
        return self._run("tests.tracing.client_main", self.mesh.target, *arguments)

    def _run(self, module: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            env=environment(**self.environment),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )


@pytest.fixture(scope="package")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """`lensmesh up --mock --jaeger`, shared by all tests here."""
    folder = tmp_path_factory.mktemp("traced")
    with mock_mesh(folder, "--jaeger", "--jaeger-binary", str(need("jaeger"))) as mesh:
        yield Traced(
            mesh,
            Jaeger(mesh.addresses["jaeger"]),
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": mesh.addresses["otlp"],
                "LENSMESH_TRACES_BULK_RATIO": "1",
                "LENSMESH_TARGET": mesh.target,
                "LENSMESH_JAEGER_URL": mesh.addresses["jaeger"],
                "XDG_STATE_HOME": str(folder / "state"),
            },
        )
