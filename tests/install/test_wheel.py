"""What a user installs: the wheel, far from the checkout, with each extra that stands for a use, and with none.

uv hard-links what `make setup` has already fetched, so that even the environment with torch is made in seconds.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.install.commands import UV, run
from tests.support.tools import ROOT

MODEL_PACKAGES = {"torch", "torchvision", "transformers", "open-clip-torch", "pyarrow"}


@pytest.fixture(scope="module")
def pins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lock as constraints: the same versions, whatever the wheel's ranges allow."""
    path = tmp_path_factory.mktemp("pins") / "constraints.txt"
    lock = (ROOT / "requirements.lock").read_text()
    path.write_text("\n".join(re.findall(r"^[a-z0-9][^\\\n]*==[^\\\n]*", lock, re.MULTILINE)) + "\n")
    return path


# Every method of the client, as its page shows it, with nothing but the client.
EXAMPLES: list[str | Path] = [ROOT / "tests" / "install" / "run_page.py", ROOT / "docs" / "client.md"]


def make(folder: Path, *arguments: str | Path) -> Path:
    """A new environment with these packages; returns its bin folder."""
    run([UV, "venv", "--quiet", "--python", sys.executable, folder / "venv"], cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run([UV, "pip", "install", "--quiet", "--python", python, *arguments], cwd=folder)
    return python.parent


def install(wheel: Path, extra: str, pins: Path, folder: Path) -> Path:
    """A new environment with the wheel, its packages as they are locked; returns its bin folder."""
    return make(folder, "--constraint", pins, f"{wheel}{extra}")


def packages(binaries: Path, folder: Path) -> dict[str, str]:
    """What is installed beside lensmesh itself: versions by name."""
    frozen = run([UV, "pip", "freeze", "--python", binaries / "python"], folder).splitlines()
    return {name.lower(): number for name, _, number in (line.partition("==") for line in frozen) if number}


@pytest.fixture(scope="module")
def target(wheel: Path, pins: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The router of `lensmesh up --mock`, from an environment with what that and the client's page need."""
    folder = tmp_path_factory.mktemp("up")
    binaries = install(wheel, "[up,match]", pins, folder)
    assert not set(packages(binaries, folder)) & MODEL_PACKAGES
    ready = folder / "ready.json"
    command: list[str | Path] = [binaries / "lensmesh", "up", "--mock", "--free-ports"]
    command += ["--data", folder / "data", "--ready-file", ready]
    mesh = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield wait_for_router(mesh, ready)
    finally:
        mesh.terminate()
        mesh.communicate(timeout=60)


def wait_for_router(mesh: subprocess.Popen[bytes], ready: Path) -> str:
    """The router's address, once `lensmesh up` has written it."""
    deadline = time.monotonic() + 180
    while not ready.exists():
        assert mesh.poll() is None, mesh.stderr.read().decode()[-4000:] if mesh.stderr else ""
        assert time.monotonic() < deadline, "the mesh did not come up"
        time.sleep(0.2)
    return str(json.loads(ready.read_text())["router"])


def test_the_wheel_with_all_extras_runs_the_demo(wheel: Path, pins: Path, tmp_path: Path) -> None:
    binaries = install(wheel, "[all]", pins, tmp_path)
    output = run([binaries / "lensmesh", "demo", "--count", "80"], cwd=tmp_path)
    result = json.loads(output.strip().splitlines()[-1])
    assert result["images"] == 80
    assert result["errors"] == 0
    assert result["recall_at_1"] > 0.9
    assert result["caption_accuracy"] > 0.9
    assert Path(result["html"]).stat().st_size > 10_000


def test_the_client_alone_is_ten_packages_at_most_and_works(
    wheel: Path, pins: Path, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binaries = install(wheel, "", pins, tmp_path)
    assert len(packages(binaries, tmp_path)) <= 10, packages(binaries, tmp_path)
    # Nothing listens there: a client that cannot export does not try.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    assert "outputs as the page tells them" in run([binaries / "python", "-W", "error", *EXAMPLES, target], tmp_path)
    told = subprocess.run([binaries / "lensmesh", "status"], capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert told.stderr == 'the command line is not installed, the client alone is: pip install "lensmesh[cli]"\n'


def test_the_client_runs_on_the_oldest_packages_that_it_names(wheel: Path, target: str, tmp_path: Path) -> None:
    """gen/ fixes the floor of grpcio and protobuf: it refuses to run with older ones."""
    lowest = tmp_path / "lowest.txt"
    compile_lowest: list[str | Path] = [UV, "pip", "compile", "--quiet", "--resolution", "lowest-direct", "--no-header"]
    # Below some version there are no wheels for a newer Python: the lowest that can be installed are taken.
    compile_lowest += ["--only-binary", ":all:", "--python", sys.executable, "--output-file", lowest]
    run([*compile_lowest, ROOT / "pyproject.toml"], cwd=tmp_path)
    binaries = make(tmp_path, "--requirement", lowest)
    run([UV, "pip", "install", "--quiet", "--python", binaries / "python", "--no-deps", wheel], tmp_path)
    found = packages(binaries, tmp_path)
    if sys.version_info < (3, 13):
        assert found["grpcio"].startswith("1.72.")
        assert found["protobuf"] == "6.30.0"
    run([binaries / "python", "-W", "error", *EXAMPLES, target], tmp_path)


def test_the_command_line_brings_no_service_and_searches(
    wheel: Path, pins: Path, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binaries = install(wheel, "[cli]", pins, tmp_path)
    assert not set(packages(binaries, tmp_path)) & (MODEL_PACKAGES | {"asyncpg", "structlog", "opentelemetry-sdk"})
    image = tmp_path / "image.png"
    draw = f"from PIL import Image; Image.new('RGB', (64, 64), 'red').save({str(image)!r})"
    run([binaries / "python", "-c", draw], tmp_path)
    monkeypatch.setenv("LENSMESH_TARGET", target)
    run([binaries / "lensmesh", "ingest", "--collection", "red", image], cwd=tmp_path)
    search: list[str | Path] = [binaries / "lensmesh", "search", "--json", "--collection", "red", "--image", image]
    found = json.loads(run(search, tmp_path))
    assert len(found["hits"]) == 1
    assert found["hits"][0]["score"] > 0.999
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    status: list[str | Path] = [binaries / "lensmesh", "status"]
    done = subprocess.run(status, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert 'no traces of this command: what makes and exports spans is not installed: pip install "lens' in done.stderr
    for command in ("top", "smoke", "bench", "doctor", "embed", "caption"):
        run([binaries / "lensmesh", command, "--help"], cwd=tmp_path)
    run([binaries / "lensmesh", "smoke", "--target", target], cwd=tmp_path)
    up = subprocess.run(
        [binaries / "lensmesh", "up", "--mock"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert up.returncode == 1
    assert up.stderr.rstrip().endswith('pip install "lensmesh[up]"')


def test_telemetry_beside_the_client_needs_no_service(wheel: Path, pins: Path, target: str, tmp_path: Path) -> None:
    """Spans of calls, made for the provider of the caller's own application, and exported by the client's package."""
    binaries = install(wheel, "[telemetry]", pins, tmp_path)
    traced = """
import os, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from lensmesh_chassis.telemetry.tracing import start_tracing, stop_tracing
from lensmesh_client import SyncClient

kept = InMemorySpanExporter()
provider = start_tracing("caller", "test")
provider.add_span_processor(SimpleSpanProcessor(kept))
with SyncClient(sys.argv[1]) as client:
    client.embed(texts="a cat")
print([span.name for span in kept.get_finished_spans()])
os._exit(0)
"""
    environment: list[str | Path] = ["env", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"]
    spans = run([*environment, binaries / "python", "-c", traced, target], tmp_path)
    assert "lensmesh embed" in spans
    assert "/lensmesh.encoder.v1.EncoderService/EncodeTexts" in spans
