"""Commands of an environment that a test makes."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

UV = Path(sys.executable).parent / "uv"


def run(command: Sequence[str | Path], cwd: Path, timeout_s: float = 600, **more: str) -> str:
    """Standard output of a command that must succeed, away from this checkout's import paths. `more`: variables."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        command, cwd=cwd, env=environment | more, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout
