"""The whole benchmark runs, tiny, so that it cannot rot: real services, real callers, every group."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cases.flood import growth
from bench.figures import TARGETS

pytestmark = pytest.mark.slow

PATIENCE_S = 1800


def test_smoke(tmp_path: Path) -> None:
    found, drawn = tmp_path / "run.json", tmp_path / "run.png"
    done = subprocess.run(
        [sys.executable, "-m", "bench.engine", "--smoke", "--readme", "--json", found, "--pictures", drawn],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(found.read_text())
    groups = document["groups"]
    assert {"limit", "stream", "router-stream", "batch", "unary", "open_clip"} <= set(groups["images"]["rounds"])
    rounds = [one for group in groups.values() for figures in group["rounds"].values() for one in figures]
    assert all(one["items"] > 0 for one in rounds)
    # Nothing was answered by what the service remembers, and nothing failed but what the flood was refused.
    assert not any(one["cached"] for one in rounds)
    for name, group in groups.items():
        errors = {reason for figures in group["rounds"].values() for one in figures for reason in one["errors"]}
        assert name == "flood" or not errors
        # gRPC itself ends calls as CANCELLED where more than a thousand wait to be begun.
        assert errors <= {"OVERLOADED", "CANCELLED"}
        assert not group["missing"]
    assert [row["what"] for row in document["figures"]] == [target.what for target in TARGETS]
    measured = {row["what"] for row in document["figures"] if row["spread"]}
    assert "EncodeStream through the Router against the in-process limit" in measured
    assert "p99 of the Encoder's event loop lag under full load" in measured
    assert "images sent in calls for 60 s, of what the device does" in measured
    assert document["machine"]["cores"] >= 1
    assert "### Figures" in done.stdout
    assert "| images a second on" in done.stdout
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_growth_compares_the_last_third_with_the_middle_one() -> None:
    assert growth([1, 5, 10, 10, 10, 10, 10, 9, 10]) == 1
    assert growth([1, 1, 1, 10, 10, 10, 12, 11, 10]) == pytest.approx(1.2)
    assert growth([0] * 9) == 1
    assert growth([5, 0, 0, 0, 0, 0, 0, 0, 1]) == float("inf")
    with pytest.raises(ValueError, match="too few"):
        growth([1, 2])
