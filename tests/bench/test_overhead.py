"""The benchmark of what serving costs: it runs, tiny, with every row, and its bare parts are what they say they are."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.measure import Results, Spread
from bench.overhead import GROUPS, readme, table
from bench.processor import family_s, process_s
from bench.rounds import in_rounds, times
from bench.rows.group import Row
from bench.rows.sides import before
from bench.worker import WorkerError

PATIENCE_S = 1800


@pytest.mark.slow
def test_smoke(tmp_path: Path) -> None:
    found = tmp_path / "run.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench.overhead", "--smoke", "--readme", "--json", found],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(found.read_text())
    assert not document["missing"]
    # Every row but those of peers, which are not installed for a test.
    rows = [row for row in document["rows"] if not row["bare"].startswith(("images/triton", "images/litserve"))]
    measured = {key for key, values in document["values"].items() if len(values) == 1 and values[0] > 0}
    assert not {row["ours"] for row in rows} - measured
    assert not {row["bare"] for row in rows if row["bare"]} - measured
    targets = [target.what for group in GROUPS.values() for target in group.targets]
    assert [row["what"] for row in document["figures"]] == targets
    unmeasured = {row["what"] for row in document["figures"] if not row["spread"]}
    assert all("Triton" in what or "LitServe" in what or "other checkout" in what for what in unmeasured)
    assert "### Figures" in done.stdout
    assert "| GetInfo, p50 | a bare grpc.aio echo: " in done.stdout


async def test_each_round_measures_every_part_and_one_that_fails_is_left_out() -> None:
    order, results = [], Results()
    values = iter([4.0, 9.0])

    async def ours() -> dict[str, float]:
        order.append("ours")
        return {"ours": next(values)}

    async def bare() -> dict[str, float]:
        order.append("bare")
        return {"bare": 2.0 if order.count("bare") == 1 else 3.0}

    async def broken() -> dict[str, float]:
        raise WorkerError("it ended\nits log")

    lines: list[str] = []
    parts = {"ours": ours, "bare": bare, "broken": broken}
    await in_rounds(parts, results, rounds=2, say=lines.append)
    assert sorted(order[:2]) == sorted(order[2:]) == ["bare", "ours"]
    assert results.missing == {"broken": "it ended\nits log"}
    # The machine was slower in the second round: the ratio is made within each.
    assert times("ours", "bare")(results) == Spread(2.0, 2.5, 3.0)
    assert times("ours", "nothing")(results) is None


def test_the_table_shows_a_row_beside_its_bare_part_and_the_other_checkout() -> None:
    row, other = Row("GetInfo, p50", "calls/info", "calls/echo", "an echo"), Row("nothing", "calls/none")
    extra = {"calls/info": [2.0, 3.0], "calls/echo": [1.0, 1.0], before("calls/info"): [4.0, 4.0]}
    results = Results(extra=extra)
    lines = table([row, other], results).splitlines()
    assert lines[2:] == [
        "| GetInfo, p50 | an echo | 1.00 / 1.00 / 1.00 ms | 2.00 / 2.50 / 3.00 ms | 2.00 / 2.50 / 3.00 |",
        "| GetInfo, p50 (the other checkout) | an echo | 1.00 / 1.00 / 1.00 ms | 4.00 / 4.00 / 4.00 ms "
        "| 4.00 / 4.00 / 4.00 |",
    ]
    assert readme([row, other], results).splitlines()[2:] == [
        "| GetInfo, p50 | an echo: 1.00 ms | 2.50 ms | 2.50 |",
        "| GetInfo, p50 (the other checkout) | an echo: 1.00 ms | 4.00 ms | 4.00 |",
    ]


def test_processor_time_is_of_a_process_and_of_those_it_started() -> None:
    began, spent = process_s(os.getpid()), time.process_time()
    while time.process_time() - spent < 0.02:
        pass
    own = process_s(os.getpid())
    assert own - began >= 0.02
    assert family_s(os.getpid()) >= own


def test_rows_and_targets_have_names_of_their_own() -> None:
    rows = [row.what + row.parts for group in GROUPS.values() for row in group.rows]
    targets = [target.what for group in GROUPS.values() for target in group.targets]
    assert len(rows) == len(set(rows))
    assert len(targets) == len(set(targets))
