"""Rounds in turn, ratios round by round, and the table of figures."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench import figures, report
from bench.machine import this_machine
from bench.measure import Case, Results, Spread, in_turn, read_figures
from bench.stage import Options
from bench.worker import Worker, WorkerError
from lensmesh_cli.load.figures import Latency, LoadFigures


def figures_of(rate: float) -> LoadFigures:
    return LoadFigures(rate=rate, latency_ms=Latency(1, 2, 3, 4), items=10)


def case(key: str, order: list[str], rates: list[float]) -> Case:
    left = iter(rates)

    async def measure(seconds: float, warm: float) -> LoadFigures:
        assert (seconds, warm) == (2, 1)
        order.append(key)
        return figures_of(next(left))

    return Case(key, key.upper(), measure)


def say(line: str) -> None:
    """Nobody listens."""


async def test_every_round_measures_every_case_in_an_order_of_its_own() -> None:
    order: list[str] = []
    cases = [case(key, order, [1.0] * 6) for key in "abcd"]
    results = await in_turn(cases, rounds=6, seconds=2, warm=1, say=say)
    rounds = [order[start : start + 4] for start in range(0, 24, 4)]
    assert all(sorted(one) == list("abcd") for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    assert {key: len(found) for key, found in results.rounds.items()} == dict.fromkeys("abcd", 6)


async def test_a_ratio_compares_within_a_round() -> None:
    # The machine was three times slower in the second round: each round's ratio is 0.9 all the same.
    order: list[str] = []
    cases = [case("limit", order, [30, 10, 20]), case("stream", order, [27, 9, 18])]
    results = await in_turn(cases, rounds=3, seconds=2, warm=1, say=say)
    assert results.ratio("stream", "limit") == Spread(0.9, 0.9, 0.9)
    assert results.rates("limit") == Spread(10, 20, 30)
    assert results.ratio("stream", "peer") is None


async def test_a_case_that_fails_is_told_and_the_others_go_on() -> None:
    async def breaks(seconds: float, warm: float) -> LoadFigures:
        raise WorkerError("the peer ended\nits log")

    order: list[str] = []
    cases = [case("limit", order, [1.0, 1.0]), Case("peer", "Peer", breaks)]
    results = await in_turn(cases, rounds=2, seconds=2, warm=1, say=say)
    assert order == ["limit", "limit"]
    assert results.missing == {"peer": "the peer ended\nits log"}
    assert results.ratio("limit", "peer") is None


def test_targets_are_judged_by_the_median() -> None:
    results = Results()
    results.rounds = {
        "limit": [figures_of(10), figures_of(10), figures_of(10)],
        "stream": [figures_of(8), figures_of(9.3), figures_of(9.9)],
        "router-stream": [figures_of(9), figures_of(8.7), figures_of(8)],
    }
    results.extra = {"lag_ms": [3.0, 25.0, 30.0]}
    rows = {row.what: row for row in figures.check(results, has_bf16=False)}
    assert rows["EncodeStream against the in-process limit"].reached is True
    assert rows["EncodeStream through the Router against the in-process limit"].reached is False
    assert rows["p99 of the Encoder's event loop lag under full load"].reached is False
    assert rows["EncodeStream against Triton as documented"].reached is None
    text = figures.table(list(rows.values()))
    assert "| EncodeStream against the in-process limit | at least 0.92x | 0.80 / 0.93 / 0.99 | yes |" in text
    assert "**no**" in text


def test_a_run_as_json_holds_every_round(tmp_path: Path) -> None:
    results = Results(titles={"limit": "in-process limit"}, rounds={"limit": [figures_of(10), figures_of(12)]})
    machine = this_machine()
    document = report.as_json(machine, Options(), "8 files", {"backend": "mock"}, {"images": results})
    report.write_json(tmp_path / "run.json", document)
    read = json.loads((tmp_path / "run.json").read_text())
    assert read["machine"]["cores"] == machine.cores >= 1
    back = [read_figures(one) for one in read["groups"]["images"]["rounds"]["limit"]]
    assert back == results.rounds["limit"]
    assert len(read["figures"]) == len(figures.TARGETS)


def test_the_charts_of_several_rounds(tmp_path: Path) -> None:
    images = Results(titles={"limit": "limit"}, rounds={"limit": [figures_of(10), figures_of(12)]})
    offered = [replace(figures_of(rate), offered=rate) for rate in (5.0, 9.0)]
    load = Results(rounds={"open-5.00": [offered[0]] * 2, "open-9.00": [offered[1]] * 2})
    report.draw_charts(tmp_path / "run.svg", this_machine(), {"images": images, "load": load})
    drawn = (tmp_path / "run.svg").read_text()
    assert drawn.startswith("<?xml")


async def test_a_worker_answers_fails_and_ends(tmp_path: Path) -> None:
    worker = Worker("tests.bench.echo", ("x",), log=tmp_path / "log")
    await worker.start(timeout_s=120)
    try:
        assert await worker.ask("echo", value=[1, "two"], timeout_s=120) == {"argument": "x", "value": [1, "two"]}
        with pytest.raises(WorkerError, match="no such thing"):
            await worker.ask("fail", timeout_s=120)
        # It lives on after an error, and what its libraries print disturbs nobody.
        assert await worker.ask("echo", value=3, timeout_s=120) == {"argument": "x", "value": 3}
        with pytest.raises(WorkerError, match=r"ended\n[\s\S]*last words"):
            await worker.ask("die", timeout_s=120)
    finally:
        await worker.stop()
