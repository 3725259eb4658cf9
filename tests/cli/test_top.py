"""`lensmesh top`: what it makes of two looks, and a real mesh seen through it."""

import contextlib
import http.server
import io
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from lensmesh_cli.console import SafeConsole
from lensmesh_cli.top.figures import EngineFigures, Ingest, MeshFigures, Method, Operation, Process, Spread, figures
from lensmesh_cli.top.looks import Look, LookDifference, Samples, quantile
from lensmesh_cli.top.screen import ScrollWindow, split_keys
from lensmesh_client import SyncClient
from tests.support.meshes import Mesh, draw_images, environment, lensmesh
from tests.support.waiting import wait_until

SECTIONS = ("Services, over 0.5 s", "Calls", "Engines", "Ingest, items/s", "Store")


def counted(at: float, value: float) -> Look:
    return Look("a:1", "router", at, {("calls_total", (("code", "OK"),)): value})


def test_quantiles_are_those_of_prometheus() -> None:
    buckets = [(0.1, 50.0), (0.5, 90.0), (1.0, 100.0), (float("inf"), 100.0)]
    assert quantile(0.5, buckets) == pytest.approx(0.1)
    assert quantile(0.25, buckets) == pytest.approx(0.05)
    assert quantile(0.7, buckets) == pytest.approx(0.3)
    assert quantile(0.95, buckets) == pytest.approx(0.75)
    # Beyond the last bound nothing is known but that bound.
    assert quantile(0.99, [(0.1, 1.0), (float("inf"), 100.0)]) == pytest.approx(0.1)
    assert quantile(0.5, [(0.1, 0.0), (float("inf"), 0.0)]) is None
    assert quantile(0.5, []) is None


def test_rates_are_per_second_and_a_counter_that_began_anew_counts_from_zero() -> None:
    assert LookDifference([(counted(10, 100), counted(12, 150))]).rate("calls_total") == 25
    assert LookDifference([(counted(10, 100), counted(12, 30))]).rate("calls_total", code="OK") == 15
    assert LookDifference([(counted(10, 100), counted(12, 150))]).rate("calls_total", code="INTERNAL") == 0
    two = LookDifference([(counted(10, 100), counted(12, 150)), (counted(10, 0), counted(12, 10))])
    assert two.rate("calls_total") == 30


def test_a_service_that_answers_no_longer_keeps_its_name() -> None:
    shown = figures([counted(10, 1)], [Look("a:1", failure="Connection refused")])
    [process] = shown.processes
    assert (process.service, process.failure) == ("router", "Connection refused")
    assert not shown.methods


def engine(at: float, misses: float, hits: float, coalesced: float) -> Look:
    model = ("model", "a")
    lane: Samples = {
        (name, (("lane", "bulk"), model)): 0.0
        for name in ("lensmesh_engine_queue_items", "lensmesh_engine_queue_bytes")
    }
    room: Samples = {
        (name, (model,)): 1.0 for name in ("lensmesh_engine_queue_limit_items", "lensmesh_engine_queue_limit_bytes")
    }
    outcomes = {"miss": misses, "hit": hits, "coalesced": coalesced}
    asked: Samples = {
        ("lensmesh_cache_requests_total", (model, ("outcome", outcome))): value for outcome, value in outcomes.items()
    }
    return Look("a:1", "encoder", at, {**lane, **room, **asked})


def test_the_share_that_was_answered_without_the_model() -> None:
    [shown] = figures([engine(10, 5, 5, 5)], [engine(12, 6, 7, 6)]).engines
    assert shown.cached == pytest.approx(3 / 4)
    [idle] = figures([engine(10, 5, 5, 5)], [engine(12, 5, 5, 5)]).engines
    assert idle.cached is None


@pytest.fixture
def busy(mesh: Mesh, tmp_path: Path) -> Iterator[Mesh]:
    """The mesh with something to show while the test runs."""
    stop = threading.Event()
    images = draw_images(tmp_path / "p", 24, start=3000)

    def work() -> None:
        with SyncClient(mesh.target) as client:
            while not stop.is_set():
                for _ in client.ingest_many(images, collection="top"):
                    pass
                client.search("red", collection="top")
                urllib.request.urlopen(f"{mesh.addresses['page']}healthz", timeout=30).close()

    thread = threading.Thread(target=work)
    thread.start()
    yield mesh
    stop.set()
    thread.join()


def test_one_frame_tells_of_every_part_of_a_mesh_at_work(busy: Mesh) -> None:
    found = busy.json("top", "--data", busy.data, "--interval", "0.5")
    assert [one["service"] for one in found["processes"]] == ["router", "encoder", "caption", "search", "http"]
    for process in found["processes"]:
        assert process["serving"]
        assert not process["failure"]
        assert process["memory_bytes"] > 10_000_000
    assert {engine["model"] for engine in found["engines"]} == {"mock"}
    assert set(found["ingest"]["items_per_s"]) >= {"created", "unchanged", "refused", "failed"}

    # Each at some time: one window may see the ingest, and another one the search.
    missing = {"calls", "requests", "store", "items", "cache"}

    def is_seen() -> bool:
        now = busy.json("top", "--data", busy.data, "--interval", "1")
        if ("router", "IngestStream") in {
            (one["service"], one["method"]) for one in now["methods"] if one["calls_per_s"]
        }:
            missing.discard("calls")
        if ("http", "GET /healthz") in {(one["service"], one["method"]) for one in now["methods"]}:
            missing.discard("requests")
        if [one for one in now["store"] if one["operation"] == "get_items" and one["seconds"]["p99"]]:
            missing.discard("store")
        if sum(now["ingest"]["items_per_s"].values()) > 0:
            missing.discard("items")
        # The same word is searched for again and again.
        if any(engine["cached"] for engine in now["engines"] if engine["service"] == "encoder"):
            missing.discard("cache")
        return not missing

    wait_until(is_seen, "the calls, the items, the store's operations and the cache are seen")


def test_without_a_terminal_it_prints_one_plain_frame(mesh: Mesh) -> None:
    done = mesh.run("top", "--data", mesh.data, "--interval", "0.5")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert [section for section in SECTIONS if section not in done.stdout] == []
    named = mesh.run("top", "--once", "--interval", "0.5", "--metrics", metrics_address(done.stdout, "encoder"))
    assert re.search(r"^encoder .* serving", named.stdout, re.MULTILINE)
    assert "router" not in named.stdout


def metrics_address(frame: str, service: str) -> str:
    [found] = re.findall(rf"^{service} +(127\.0\.0\.1:\d+) ", frame, re.MULTILINE)
    return str(found)


@pytest.mark.parametrize("by_key", [True, False])
def test_in_a_terminal_it_goes_on_until_it_is_stopped(mesh: Mesh, by_key: bool) -> None:
    leader, follower = pty.openpty()
    os.set_blocking(leader, False)
    process = subprocess.Popen(
        [sys.executable, "-m", "lensmesh_cli", "top", "--data", str(mesh.data), "--interval", "0.2"],
        env=environment(TERM="xterm", LINES="60"),
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    shown = b""

    def frames() -> bool:
        nonlocal shown
        with contextlib.suppress(BlockingIOError):
            shown += os.read(leader, 65536)
        return shown.count(b"Services, over 0.2 s") >= 3

    try:
        wait_until(lambda: frames() or process.poll() is not None, "three frames")
        if by_key:
            os.write(leader, b"jjq")
        else:
            process.send_signal(signal.SIGINT)

        def ended() -> bool:
            # What nobody reads would keep it from ending.
            with contextlib.suppress(OSError):
                os.read(leader, 65536)
            return process.poll() is not None

        wait_until(ended, "it ends")
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    assert process.returncode == 0
    assert b"Traceback" not in shown


def some_figures() -> MeshFigures:
    spread = Spread(0.0123, 0.0456, 1.5)
    services = ("router", "encoder", "caption", "search")
    processes = [
        Process(name, f"127.0.0.1:{50000 + place}", serving=True, calls_per_s=1234.5, memory_bytes=2.5e9, cpu=3.2)
        for place, name in enumerate(services)
    ]
    return MeshFigures(
        [*processes[:3], Process("search", "127.0.0.1:50003", failure="Connection refused")],
        [Method("encoder", f"Method{number}", number, 0, spread) for number in range(30)],
        [EngineFigures("encoder", "ViT-B-32/laion2b_s34b_b79k", 100, {}, 0.5, 1.5, 12.5, 0.9, 0.1, spread, spread)],
        Ingest({"created": 12.5}, 512, 6.4e7, spread),
        [Operation("upsert_items", 12, 0, spread)],
    )


def test_a_small_terminal_shows_what_matters_first_and_scrolls() -> None:
    file = io.StringIO()
    window = ScrollWindow(SafeConsole(file=file, width=60, height=15, force_terminal=True, color_system=None), 2.0)
    window.show(some_figures())

    def seen() -> list[str]:
        file.seek(0)
        file.truncate()
        window._console.print(window.lines(), end="")
        return file.getvalue().splitlines()

    lines = seen()
    assert len(lines) == 15
    assert max(map(len, lines)) <= 60
    first = "\n".join(lines)
    for words in ("router", "serving", "search", "no answer: Connection refused", "errors/s", "Ingest", "12.5"):
        assert words in first
    assert "q quits" in lines[-1]
    assert window.press("j")
    assert seen()[0] == lines[1]
    assert window.press("\x1b[A")
    assert seen() == lines
    for _ in range(100):
        window.press("\x1b[6~")
    assert "upsert_items" in "\n".join(seen())
    window.press("g")
    assert seen() == lines
    assert not window.press("x")


def test_keys_are_told_apart() -> None:
    assert split_keys("jq\x1b[Ak\x1b[6~\x1bOBG") == ["j", "q", "\x1b[A", "k", "\x1b[6~", "\x1bOB", "G"]


def test_no_mesh_is_said_plainly(tmp_path: Path) -> None:
    done = lensmesh("top", "--data", tmp_path)
    assert done.returncode == 3
    assert f"no mesh shows metrics in {tmp_path}" in done.stderr
    assert "lensmesh up" in done.stderr
    assert "--metrics" in done.stderr


def test_endpoints_that_do_not_answer_are_named(mesh: Mesh) -> None:
    done = lensmesh("top", "--metrics", "127.0.0.1:1", "--metrics", mesh.target)
    assert done.returncode == 3
    assert "127.0.0.1:1: [Errno 111] Connection refused" in done.stderr
    assert f"{mesh.target}: what answers there shows no metrics" in done.stderr
    assert "Traceback" not in done.stderr


def test_somebody_elses_metrics_are_told_apart() -> None:
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"# TYPE up gauge\nup 1\n")

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        done = lensmesh("top", "--metrics", f"127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()
    assert done.returncode == 3
    assert "no service of lensmesh" in done.stderr
