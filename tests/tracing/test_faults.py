"""What goes wrong, as a real Jaeger has it: a bad image, a caller who leaves, a deadline, a call sent again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.support.meshes import PATIENCE_S, draw_images, environment
from tests.support.service_process import process
from tests.support.waiting import wait_until
from tests.tracing.conftest import Traced
from tests.tracing.ingest_trace import INGEST_STREAM, is_whole, stream_of
from tests.tracing.traces import Span, Trace, assert_well_made

ENCODE_STREAM = "/lensmesh.encoder.v1.EncoderService/EncodeStream"


def codes(trace: Trace, call: Span) -> tuple[str, str]:
    """How a call ended, as its caller and as its server have it."""
    return call.code, trace.served(call).code


def has(trace: Trace, served: str, asked: str) -> bool:
    """Whether the router has told of the call that it served, and of the one that it made for it."""
    return bool(trace.all(method=served, kind="server") and trace.all(method=asked, kind="client"))


@contextlib.contextmanager
def held(traced: Traced, name: str) -> Iterator[None]:
    """One service of the mesh does nothing meanwhile."""
    pid = traced.mesh.pid(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, f"{name} stands still")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_bad_image_among_good_ones(traced: Traced, tmp_path: Path) -> None:
    draw_images(tmp_path, 4, start=20_000)
    (tmp_path / "p20002.png").write_bytes(b"this is no image")
    done = traced.lensmesh("ingest", tmp_path, "--collection", "bad-image", "--json")
    assert json.loads(done.stdout)["failed"] == 1
    trace = traced.jaeger.trace(traced.jaeger.find("router", INGEST_STREAM, collection="bad-image"), is_whole)
    assert_well_made(trace)
    stream = stream_of(trace)
    [bad] = [item for item in trace.below(stream, name="item") if item.failed]
    reason = bad.attributes["lensmesh.reason"]
    assert bad.why.startswith(f"{reason}: ")
    assert trace.only(bad, name="encode").failed
    assert not trace.below(bad, name="write")
    assert len(trace.below(stream, name="item")) == 4
    # No call failed for it. One for its caption alone is given up: the encoder's word is enough.
    for call in (span for span in trace if span.method and span.method != "GetCollection" and span.code != "OK"):
        assert (call.method, call.code) == ("CaptionImages", "CANCELLED")
        assert call.kind == "server" or trace.linked(call) == [bad]
    # The encoder found out, while it decoded; so may the captioner. Each tells it there and nowhere else.
    told = {span.service: span for span in trace if span.exceptions and span.method != "GetCollection"}
    assert {"encoder"} <= set(told) <= {"encoder", "caption"}
    for span in told.values():
        assert (span.name, span.exceptions) == ("decode", [reason])
        item = trace.spans[span.parent]
        assert item.failed
        assert not trace.below(item, name="queue")


def test_a_stream_that_its_caller_leaves(traced: Traced) -> None:
    done = traced.client("stream_left")
    assert done.returncode == 0, done.stderr
    # The call was given up, but not before it was answered once: its server's side comes too.
    trace = traced.jaeger.trace(
        done.stdout.strip(), lambda trace: is_whole(trace) and has(trace, "EncodeStream", "EncodeTexts")
    )
    assert_well_made(trace)
    call = trace.only(trace.root)
    assert (call.name, codes(trace, call)) == (ENCODE_STREAM, ("CANCELLED", "CANCELLED"))
    assert call.failed
    # What was answered before stays what it was.
    item = trace.only(trace.served(call), name="item")
    assert not item.failed
    assert codes(trace, trace.only(trace.served(call), method="EncodeTexts")) == ("OK", "OK")


def test_a_stream_that_its_caller_leaves_while_the_encoder_works(traced: Traced) -> None:
    client = subprocess.Popen(
        [sys.executable, "-m", "tests.tracing.client_main", traced.mesh.target, "stream_left_waiting"],
        env=environment(**traced.environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdout is not None
    with held(traced, "encoder"):
        trace_id = client.stdout.readline().strip()
        # The item is with the encoder once the router has asked for it, and that call cannot end.
        wait_until(lambda: in_flight(traced, "EncodeTexts") == 1, "the router has asked the encoder")
        client.communicate("go\n", timeout=PATIENCE_S)
        wait_until(lambda: in_flight(traced, "EncodeTexts") == 0, "the router has given up")
    trace = traced.jaeger.trace(trace_id, lambda trace: has(trace, "EncodeStream", "EncodeTexts"))
    call = trace.only(trace.root)
    assert codes(trace, call) == ("CANCELLED", "CANCELLED")
    asked = trace.only(trace.served(call), method="EncodeTexts")
    assert asked.code == "CANCELLED"
    [item] = trace.linked(asked)
    assert (item.name, item.why) == ("item", "CANCELLED")
    assert not [span for span in trace if span.exceptions]


def test_a_deadline(traced: Traced, tmp_path: Path) -> None:
    draw_images(tmp_path, 1, start=21_000)
    assert traced.lensmesh("ingest", tmp_path, "--collection", "hurry").returncode == 0
    with held(traced, "encoder"):
        done = traced.client("search_in_a_hurry")
        assert done.stderr.split() == ["DeadlineExceeded"]
    trace = traced.jaeger.trace(done.stdout.strip(), lambda trace: has(trace, "Search", "EncodeTexts"))
    root = trace.root
    operation = trace.only(root, name="lensmesh search")
    assert "DEADLINE_EXCEEDED" in operation.why
    call = trace.only(operation, method="Search")
    assert codes(trace, call) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
    assert call.failed
    [asked] = trace.all(method="EncodeTexts", kind="client")
    assert (asked.service, asked.code) in {("router", "DEADLINE_EXCEEDED"), ("router", "CANCELLED")}


async def test_a_call_that_grpc_sends_again(traced: Traced, tmp_path: Path) -> None:
    """One call for its caller, who gets an answer; two for the server, the second of which says that it is one."""
    async with process(tmp_path, "flaky", environment=traced.environment) as flaky:
        address = (await flaky.addresses())["addresses"][0]
        done = subprocess.run(  # noqa: ASYNC221 - nothing else happens in this test meanwhile
            [sys.executable, "-m", "tests.tracing.client_main", address, "images"],
            env=environment(**traced.environment), capture_output=True, text=True, timeout=PATIENCE_S, check=True,
        )  # fmt: skip
        flaky.process.terminate()
        assert await flaky.ended() == 0
    trace = traced.jaeger.trace(done.stdout.strip(), lambda trace: len(trace.all(kind="server")) == 2)
    call = trace.only(trace.root)
    assert (call.code, call.failed) == ("OK", False)
    first, second = trace.below(call, kind="server")
    assert (first.code, first.failed, first.exceptions) == ("UNAVAILABLE", True, ["DRAINING"])
    assert "lensmesh.attempt" not in first.attributes
    assert (second.code, second.failed, second.attributes["lensmesh.attempt"]) == ("OK", False, 2)


def in_flight(traced: Traced, method: str) -> int:
    """Calls of a method that the router has made and that have no answer yet, as its metrics tell."""
    import urllib.request

    address = json.loads((traced.mesh.data / "run" / "router.json").read_text())["metrics"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=PATIENCE_S) as answer:
        lines = answer.read().decode().splitlines()
    started, handled = (
        sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith(f"grpc_client_{what}_total{{") and f'"{method}"' in line
        )
        for what in ("started", "handled")
    )
    return int(started - handled)
