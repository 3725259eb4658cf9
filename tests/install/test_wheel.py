"""What a user installs: the wheel, far from the checkout, with and without the extras.

uv hard-links what `make setup` has already fetched, so that even the environment with torch is made in seconds.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).parent / "uv"


def run(command: list[str | Path], cwd: Path, timeout_s: float = 600) -> str:
    """Standard output of a command that must succeed, away from this checkout's import paths."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


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


@pytest.fixture(scope="module")
def pins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lock as constraints: the same versions, whatever the wheel's ranges allow."""
    path = tmp_path_factory.mktemp("pins") / "constraints.txt"
    lock = (ROOT / "requirements.lock").read_text()
    path.write_text("\n".join(re.findall(r"^[a-z0-9][^\\\n]*==[^\\\n]*", lock, re.MULTILINE)) + "\n")
    return path


def install(wheel: Path, extra: str, pins: Path, folder: Path) -> Path:
    """A new environment with the wheel; returns its bin folder."""
    run([UV, "venv", "--quiet", "--python", sys.executable, folder / "venv"], cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run([UV, "pip", "install", "--quiet", "--python", python, "--constraint", pins, f"{wheel}{extra}"], cwd=folder)
    return python.parent


@pytest.fixture(scope="module")
def everything(wheel: Path, pins: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("everything")
    return install(wheel, "[all]", pins, folder), folder


def test_the_wheel_with_all_extras_runs_the_demo(everything: tuple[Path, Path]) -> None:
    binaries, folder = everything
    output = run([binaries / "lensmesh", "demo", "--count", "80"], cwd=folder)
    result = json.loads(output.strip().splitlines()[-1])
    assert result["images"] == 80
    assert result["errors"] == 0
    assert result["recall_at_1"] > 0.9
    assert result["caption_accuracy"] > 0.9
    assert Path(result["html"]).stat().st_size > 10_000


def test_the_plain_wheel_brings_no_framework_and_searches(
    wheel: Path, pins: Path, everything: tuple[Path, Path], tmp_path: Path
) -> None:
    """A caller's environment: contracts, client and command line against a mesh that runs elsewhere."""
    binaries = install(wheel, "", pins, tmp_path)
    names = {
        line.split("==")[0].lower()
        for line in run([UV, "pip", "freeze", "--python", binaries / "python"], tmp_path).split()
    }
    assert not names & {"torch", "torchvision", "transformers", "open-clip-torch", "asyncpg", "pyarrow"}
    everything_binaries, folder = everything
    ready = folder / "ready.json"
    mesh = subprocess.Popen(
        [
            everything_binaries / "lensmesh",
            "up",
            "--mock",
            "--free-ports",
            "--data",
            folder / "data",
            "--ready-file",
            ready,
        ],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        target = wait_for_router(mesh, ready)
        image = tmp_path / "image.png"
        run(
            [
                binaries / "python",
                "-c",
                f"from PIL import Image; Image.new('RGB', (64, 64), 'red').save({str(image)!r})",
            ],
            tmp_path,
        )
        run([binaries / "lensmesh", "ingest", "--target", target, image], cwd=tmp_path)
        found = json.loads(
            run([binaries / "lensmesh", "search", "--target", target, "--json", "--image", image], tmp_path)
        )
        assert len(found["hits"]) == 1
        assert found["hits"][0]["score"] > 0.999
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
