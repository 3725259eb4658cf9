"""Commands of an environment that a test makes."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

UV = Path(sys.executable).parent / "uv"


def run(command: Sequence[str | Path], cwd: Path, timeout_s: float = 600, runs: int = 1, **more: str) -> str:
    """Standard output of a command that must succeed, away from this checkout's import paths. `more`: variables.

    It is run up to `runs` times while a segmentation fault ends it; whatever else it fails with counts at once.
    """
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    for _ in range(runs):
        done = subprocess.run(
            command, cwd=cwd, env=environment | more, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if done.returncode != -signal.SIGSEGV:
            break
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout
