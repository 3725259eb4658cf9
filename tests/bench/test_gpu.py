"""bench/gpu.sh runs without a GPU, tiny, as far as it goes there: everything but the device."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 1800


def test_smoke(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", ROOT / "bench" / "gpu.sh", "--smoke"],
        env={**os.environ, "PYTHON": sys.executable, "OUT": str(tmp_path / "out"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert found["shapes"]["stream"] > 0
    assert found["shapes"]["ratio"] == found["shapes"]["stream"] / max(found["shapes"]["forward"].values())
    assert "busy" in found["shapes"]["limiting"]
    assert found["BLIP-tiny"]["captions"] > 0
    assert found["BLIP-tiny"]["p99_ms"] > 0
    assert found["together"]["images"] > 0
    assert "GB" in found["together"]["memory"]
    assert (tmp_path / "out" / "gpu.md").read_text().count("\n- ") == 3
