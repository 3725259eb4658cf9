"""`lensmesh up --jaeger`: where there is none, and where it goes away in the middle of an ingest."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from lensmesh_client import IngestItem, SyncClient
from lensmesh_local.jaeger import HOW_TO_GET_ONE, find_jaeger
from tests.support.meshes import draw_images, lensmesh, mock_mesh
from tests.support.tools import need
from tests.support.waiting import wait_until
from tests.tracing.ingest_trace import INGEST_STREAM, is_whole
from tests.tracing.traces import Jaeger, assert_well_made

WARNING = "traces do not reach their collector"
BACK = "traces reach their collector again"
SERVICES = ("router", "encoder", "caption", "search")


def test_a_jaeger_on_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "jaeger"
    program.write_text("#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_jaeger(None) != program, "it cannot be run"
    program.chmod(0o755)
    assert find_jaeger(None) == program
    assert find_jaeger(tmp_path / "another") is None
    assert "make tools" in HOW_TO_GET_ONE


def test_without_a_jaeger_it_says_how_to_get_one(tmp_path: Path) -> None:
    done = lensmesh("up", "--mock", "--jaeger", "--jaeger-binary", tmp_path / "none", "--data", tmp_path / "data")
    assert done.returncode == 1
    assert f"{tmp_path / 'none'} is no program" in done.stderr


def test_a_jaeger_that_does_not_start_ends_it_with_the_reason(tmp_path: Path) -> None:
    done = lensmesh(
        "up", "--mock", "--free-ports", "--jaeger", "--jaeger-binary", "/bin/false", "--data", tmp_path / "data"
    )
    assert done.returncode == 1
    assert "jaeger ended with code 1" in done.stderr
    assert "jaeger.log" in done.stderr


def test_a_jaeger_killed_during_an_ingest_costs_no_item(tmp_path: Path) -> None:
    # A killed Jaeger refuses at once. The time-out is for the one that works on a busy machine.
    quick = {"OTEL_EXPORTER_OTLP_TIMEOUT": "10", "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with mock_mesh(tmp_path, "--jaeger", "--jaeger-binary", str(need("jaeger")), **quick) as mesh:
        before = mesh.pid("jaeger")
        with SyncClient(mesh.target, timeout_s=120) as client:
            results = []
            for result in client.ingest_many(map(IngestItem, draw_images(tmp_path / "many", 300)), collection="gone"):
                results.append(result)
                if len(results) == 50:
                    os.kill(before, signal.SIGKILL)
        assert len(results) == 300
        assert [result.error for result in results if not result.ok] == []
        # It is started again where it was, and gets traces again.
        wait_until(lambda: mesh.pid("jaeger") not in {0, before}, "Jaeger is back")
        wait_until(lambda: "jaeger serves again" in mesh.said(), "Jaeger answers")
        assert mesh.json("ingest", tmp_path / "many", "--fresh", "--collection", "after")["stored"] == 300
        jaeger = Jaeger(mesh.addresses["jaeger"])
        trace = jaeger.trace(jaeger.find("router", INGEST_STREAM, collection="after"), is_whole)
        assert_well_made(trace)
        for name in SERVICES:
            # An absence that outlasts the attempts to send again is told once, and so is its end.
            log = (mesh.data / "logs" / f"{name}.log").read_text()
            said, back = log.count(WARNING), log.count(BACK)
            assert said in {back, back + 1}, f"{name} said it {said} times, and {back} times that it is over"
        jaeger_pid = mesh.pid("jaeger")
    assert not psutil.pid_exists(jaeger_pid)


def test_a_killed_supervisor_takes_jaeger_with_it(tmp_path: Path) -> None:
    with mock_mesh(tmp_path, "--jaeger", "--jaeger-binary", str(need("jaeger"))) as mesh:
        pid = mesh.pid("jaeger")
        assert json.loads((mesh.data / "run" / "jaeger.json").read_text())["ui"] == mesh.addresses["jaeger"]
        assert mesh.addresses["jaeger"] in mesh.said()
        mesh.process.kill()
        wait_until(lambda: not psutil.pid_exists(pid), "Jaeger ends")
