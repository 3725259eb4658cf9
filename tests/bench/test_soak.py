"""The soak: it sees growth and only growth, and the script runs against a real mesh."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.soak.samples import Sample
from bench.soak.verdict import judge, warm_up_s
from tests.support.meshes import environment

pytestmark = pytest.mark.slow

SECONDS = 600.0
# All pools of a service on a few cores, and then some.
MOST_THREADS = 64


def samples(memory: Callable[[float], float], tasks: Callable[[int], int] = lambda _: 20) -> list[Sample]:
    """One every three seconds."""
    return [Sample(3.0 * n, memory(3.0 * n), 12, tasks(n), 30, 0.0) for n in range(200)]


def grown(found: list[Sample]) -> set[str]:
    return {row.quantity for row in judge({"encoder": found}, SECONDS) if not row.fine}


def test_what_grows_steadily_is_seen() -> None:
    assert grown(samples(lambda at: 200 + at / 10)) == {"memory_mib"}


def test_what_grows_in_the_first_minute_only_is_not() -> None:
    assert grown(samples(lambda at: 200 + min(at, 60.0))) == set()


def test_a_peak_is_no_growth() -> None:
    assert grown(samples(lambda at: 500.0 if 300 <= at <= 310 else 200.0)) == set()


def test_tasks_that_come_and_go_are_not_seen_and_those_that_stay_are() -> None:
    assert grown(samples(lambda _: 200, lambda n: 20 + 300 * (n % 3))) == set()
    assert grown(samples(lambda _: 200, lambda n: n + 300 * (n % 3))) == {"tasks"}
    # Few samples are of a quiet moment: none in the first fifth, or none in the last.
    assert grown(samples(lambda _: 200, lambda n: 320 if n % 70 else 20)) == set()
    assert grown(samples(lambda _: 200, lambda n: 320 if n % 70 else 20 + n)) == {"tasks"}


def test_too_few_samples_say_nothing() -> None:
    with pytest.raises(ValueError, match="five at least"):
        judge({"encoder": samples(lambda _: 200)[:24]}, SECONDS)


def test_a_short_run_has_a_short_warm_up() -> None:
    assert [warm_up_s(seconds) for seconds in (30, 180, 600)] == [10, 60, 60]


@pytest.mark.parametrize("kind", ["mixed", "overload"])
def test_the_script_runs_against_a_real_mesh(kind: str, tmp_path: Path) -> None:
    """Half a minute is too short to tell of memory: that may grow by as much as it likes here."""
    command = [sys.executable, "-m", "bench.soak", "--model", "mock", "--every", "0.5", "--memory-mib", "100000"]
    command += ["--seconds", "20" if kind == "mixed" else "8", "--out", str(tmp_path)]
    if kind == "overload":
        command.append("--overload")
    root = Path(__file__).resolve().parents[2]
    path = f"{root}:{root / 'gen'}"
    done = subprocess.run(
        command, cwd=root, env=environment(PYTHONPATH=path), capture_output=True, text=True, timeout=600, check=False
    )
    found = json.loads((tmp_path / "soak.json").read_text())
    assert found["surprises"] == [], done.stdout
    judged = {(row["service"], row["quantity"]): row for row in found["rows"]}
    services = {"encoder"} if kind == "overload" else {"encoder", "caption", "search", "router"}
    assert {service for service, _ in judged} == services
    # In a run as short as this, queues that still fill and pools that still start threads are no growth.
    assert all(row["fine"] for (_, what), row in judged.items() if what == "descriptors"), done.stdout
    assert all(0 < row["most"] < MOST_THREADS for (_, what), row in judged.items() if what == "threads"), done.stdout
    assert done.returncode in {0, 1}
    assert (tmp_path / "soak.png").stat().st_size > 10_000
    seen = found["seen"]
    wanted = {
        "ingested",
        "ingest refused",
        "cancelled",
        "caption: ok",
        "stream broken off",
        "first call of a connection: ok",
    }
    assert seen.keys() >= ({"sent in calls", "calls: done"} if kind == "overload" else wanted), done.stdout
