"""What the tests of the command share: running it, a mesh of mocks, images."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from tests.support.waiting import wait_until

PATIENCE_S = 300.0


def environment(**more: str) -> dict[str, str]:
    """Without settings of the developer's own shell."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LENSMESH_")}
    return {**kept, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **more}


def lensmesh(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    """One run of the command, as its user sees it."""
    return subprocess.run(
        [sys.executable, "-m", "lensmesh_cli", *map(str, arguments)],
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@dataclass
class Mesh:
    """`lensmesh up --mock`, running."""

    process: subprocess.Popen[bytes]
    data: Path
    log: Path
    addresses: dict[str, str]

    @property
    def target(self) -> str:
        """The router."""
        return self.addresses["router"]

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """One run of the command against this mesh."""
        return lensmesh(*arguments, LENSMESH_TARGET=self.target, XDG_STATE_HOME=str(self.data / "state"))

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        """What it prints with --json."""
        done = self.run(*arguments, "--json")
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def pid(self, name: str) -> int:
        """Of a process of the mesh, as it is now; 0 while there is none."""
        with contextlib.suppress(OSError, ValueError):
            return int(json.loads((self.data / "run" / f"{name}.json").read_text())["pid"])
        return 0

    def said(self) -> str:
        """What `up` has printed."""
        return self.log.read_text()


@contextlib.contextmanager
def mock_mesh(folder: Path, *arguments: str, **settings: str) -> Iterator[Mesh]:
    """Starts one on free ports, with more arguments, and settings in its environment; ends it as Ctrl-C would.

    The front door, which few tests need, comes with `--http`.
    """
    ready, log = folder / "ready.json", folder / "up.log"
    command = [sys.executable, "-m", "lensmesh_cli", "up", "--mock", "--free-ports", "--data", str(folder / "data")]
    command += arguments if "--http" in arguments else [*arguments, "--no-http"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--ready-file", str(ready)],
            env=environment(**settings),
            stdout=output,
            stderr=output,
            # As a shell does: Ctrl-C goes to a whole group.
            start_new_session=True,
        )
    try:
        wait_until(lambda: ready.exists() or process.poll() is not None, "the mesh serves")
        assert process.poll() is None, log.read_text()
        yield Mesh(process, folder / "data", log, json.loads(ready.read_text()))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        process.wait(PATIENCE_S)


def draw_images(folder: Path, count: int, start: int = 0) -> list[Path]:
    """Small images, no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(start, start + count):
        path = folder / f"p{number:04d}.png"
        Image.new("RGB", (24, 16), (number % 256, number // 256, 7)).save(path)
        paths.append(path)
    return paths
