"""Real processes: start, signals, drain, exit codes, what is said."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from lensmesh_chassis import channels
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.process.exit import GIVEN_UP
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error
from tests.support.every_shape import SHAPES, call, finish
from tests.support.service_process import PATIENCE, entered, health_of, process, says, until_serving
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
on_each_loop = pytest.mark.parametrize("event_loop", ["asyncio", "uvloop"])


@on_each_loop
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_under_load_drains(tmp_path: Path, number: signal.Signals, event_loop: str) -> None:
    """Calls in flight finish, health and new calls are told what is going on, nothing is lost, exit code 0."""
    go_on = tmp_path / "go-on"
    async with process(
        tmp_path, "holds", str(go_on), METRICS_LISTEN="127.0.0.1:0", DRAIN_SECONDS="60", EVENT_LOOP=event_loop
    ) as one:
        found = await one.addresses()
        assert found["pid"] == one.process.pid
        async with open_channel(found["addresses"][0]) as channel:
            await until_serving(channel)
            held = [
                asyncio.create_task(finish(call(channel, method, [str(n)])))
                for n in range(10)
                for method in ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")
            ]
            await until(lambda: entered(found["metrics"], 40))
            one.process.send_signal(number)
            await until(lambda: says(channel, health_pb2.HealthCheckResponse.NOT_SERVING))
            assert await health_of(channel, SHAPES) == health_pb2.HealthCheckResponse.NOT_SERVING
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await finish(call(channel, "UnaryUnary"))
            refused = from_rpc_error(caught.value)
            assert isinstance(refused, Unavailable)
            assert refused.reason is Reason.DRAINING
            assert refused.retry_after_s is not None
            assert not any(task.done() for task in held)
            go_on.touch()
            answers = await asyncio.wait_for(asyncio.gather(*held), PATIENCE)
        assert [answer[-1] for answer in answers] == [str(n) for n in range(10) for _ in range(4)]
        assert await one.ended() == 0
        assert not one.ready.exists()
        assert "fake stopped" in await one.said()


@on_each_loop
async def test_a_second_signal_forces(tmp_path: Path, event_loop: str) -> None:
    async with process(tmp_path, "holds", str(tmp_path / "never"), DRAIN_SECONDS="600", EVENT_LOOP=event_loop) as one:
        found = await one.addresses()
        async with open_channel(found["addresses"][0]) as channel:
            await until_serving(channel)
            held = call(channel, "UnaryStream")
            await anext(aiter(held))
            one.process.send_signal(signal.SIGTERM)
            await until(lambda: says(channel, health_pb2.HealthCheckResponse.NOT_SERVING))
            one.process.send_signal(signal.SIGTERM)
            assert await one.ended() == 1
            with pytest.raises(grpc.aio.AioRpcError):
                await finish(held)
        assert "second signal" in await one.said()


@on_each_loop
async def test_the_drain_ends_at_its_limit(tmp_path: Path, event_loop: str) -> None:
    async with process(tmp_path, "holds", str(tmp_path / "never"), DRAIN_SECONDS="0.2", EVENT_LOOP=event_loop) as one:
        found = await one.addresses()
        async with open_channel(found["addresses"][0]) as channel:
            await until_serving(channel)
            held = call(channel, "UnaryStream")
            await anext(aiter(held))
            one.process.send_signal(signal.SIGTERM)
            assert await one.ended() == 0
            with pytest.raises(grpc.aio.AioRpcError):
                await finish(held)
        said = await one.said()
        assert "cut off" in said
        assert event_loop in said.partition("fake answers")[2]


async def test_a_watcher_does_not_keep_the_process(tmp_path: Path) -> None:
    async with process(tmp_path, DRAIN_SECONDS="600") as one:
        found = await one.addresses()
        async with open_channel(found["addresses"][0]) as channel:
            await until_serving(channel)
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            one.process.send_signal(signal.SIGTERM)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert await one.ended() == 0


@on_each_loop
async def test_a_signal_while_starting_stops_the_start(tmp_path: Path, event_loop: str) -> None:
    async with process(tmp_path, "hangs", EVENT_LOOP=event_loop) as one:
        found = await one.addresses()
        async with open_channel(found["addresses"][0]) as channel:
            assert await health_of(channel) == health_pb2.HealthCheckResponse.NOT_SERVING
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await finish(call(channel, "UnaryUnary"))
            assert from_rpc_error(caught.value).reason is Reason.NOT_READY
        one.process.send_signal(signal.SIGTERM)
        assert await one.ended() == 0


async def test_a_start_that_fails_says_why_in_one_line(tmp_path: Path) -> None:
    async with process(tmp_path, "refuses") as one:
        assert await one.ended() == 1
        said = await one.said()
    critical = [line for line in said.splitlines() if "critical" in line]
    assert len(critical) == 1
    assert "fake cannot start: the database at db:5432 does not answer: start it" in critical[0]
    assert "Traceback" not in said


async def test_a_bug_in_the_start_shows_its_traceback(tmp_path: Path) -> None:
    async with process(tmp_path, "breaks") as one:
        assert await one.ended() == 1
        assert "Traceback" in await one.said()


async def test_a_port_in_use_is_named_with_its_fix(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with process(tmp_path, LISTEN=address) as one:
            assert await one.ended() == 1
            said = await one.said()
    assert f"cannot listen on {address}: the port is in use" in said
    assert "Traceback" not in said


async def test_a_wrong_setting_ends_the_start_with_its_name(tmp_path: Path) -> None:
    async with process(tmp_path, DRAIN_SECOND="3") as one:
        assert await one.ended() == 1
        said = await one.said()
    assert said.strip().splitlines() == [
        "LENSMESH_FAKE_DRAIN_SECOND is no setting: did you mean LENSMESH_FAKE_DRAIN_SECONDS? "
        "Remove it or correct its name."
    ]


async def test_logs_are_json_and_begin_with_the_settings(tmp_path: Path) -> None:
    async with process(tmp_path, INSTANCE="replica-1", LOG_LEVEL="debug") as one:
        found = await one.addresses()
        async with open_channel(found["addresses"][0]) as channel:
            await until_serving(channel)
            await finish(call(channel, "UnaryUnary", metadata=(("x-request-id", "call-9"),)))
        one.process.send_signal(signal.SIGTERM)
        assert await one.ended() == 0
        events = [json.loads(line) for line in (await one.said()).splitlines()]
    assert events[0]["event"] == "settings"
    assert events[0]["settings"]["instance"] == "replica-1"
    assert all({"timestamp", "level", "event", "service", "instance"} <= event.keys() for event in events)
    called = next(event for event in events if event["event"] == "call" and event["method"].endswith("UnaryUnary"))
    assert called["code"] == "OK"
    assert called["request_id"] == "call-9"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """As much of an OTLP collector as an exporter needs."""

    def __init__(self) -> None:
        self.services: set[str] = set()
        self.spans: set[str] = set()

    async def Export(self, request: Any, _context: Any) -> Any:
        for resource in request.resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            self.services.add(f"{names['service.name']}@{names['service.instance.id']}")
            self.spans |= {span.name for scope in resource.scope_spans for span in scope.spans}
        return trace_service_pb2.ExportTraceServiceResponse()


async def test_spans_reach_the_collector_that_is_named(tmp_path: Path) -> None:
    collector, server = Collector(), grpc.aio.server()
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    async with process(tmp_path, environment=otel, INSTANCE="replica-1") as one:
        found = await one.addresses()
        async with open_channel(found["addresses"][0]) as channel:
            await until_serving(channel)
            await finish(call(channel, "UnaryUnary"))
        one.process.send_signal(signal.SIGTERM)
        assert await one.ended() == 0
    await server.stop(0)
    assert collector.services == {"lensmesh-fake@replica-1"}
    assert collector.spans == {f"/{SHAPES}/UnaryUnary"}


async def test_of_a_stopped_process_its_callers_hear_by_keepalive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As both numbers say: gRPC's own time-out of a ping is a minute, and would be what counts."""
    monkeypatch.setattr(channels, "_KEEPALIVE_MS", 1_000)
    monkeypatch.setattr(channels, "_KEEPALIVE_TIMEOUT_MS", 1_000)
    async with process(tmp_path) as one:
        found = await one.addresses()
        async with open_channel(found["addresses"][0]) as channel:
            await until_serving(channel)
            held = call(channel, "UnaryStream", ["forever"])
            await anext(aiter(held))
            one.process.send_signal(signal.SIGSTOP)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                # Answers that were on their way are read first.
                await asyncio.wait_for(finish(held), 20)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            one.process.send_signal(signal.SIGCONT)


@on_each_loop
async def test_a_process_that_gives_up_says_so_and_leaves_at_once(tmp_path: Path, event_loop: str) -> None:
    """Though a thread of it never ends, and its event loop is not asked."""
    async with process(tmp_path, "gives-up", EVENT_LOOP=event_loop) as one:
        assert await one.ended() == GIVEN_UP
        assert "the last words" in await one.said()


async def test_a_collector_that_is_away_holds_nothing_up(tmp_path: Path) -> None:
    otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    async with process(tmp_path, environment=otel) as one:
        found = await one.addresses()
        async with open_channel(found["addresses"][0]) as channel:
            await until_serving(channel)
            assert await finish(call(channel, "UnaryUnary")) == ["a"]
        one.process.send_signal(signal.SIGTERM)
        assert await one.ended() == 0


@pytest.mark.parametrize(
    "module",
    [f"{name}_svc.__main__" for name in ("encoder", "caption", "search", "router")] + ["lensmesh_cli.main"],
)
def test_grpc_is_quiet_before_it_is_imported(module: str) -> None:
    """Its core writes plain lines between the JSON ones, and asks how many when it is imported."""
    code = (
        "import importlib, importlib.abc, os, sys\n"
        "class Told(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'grpc': print(os.environ.get('GRPC_VERBOSITY'))\n"
        "sys.meta_path.insert(0, Told())\n"
        f"importlib.import_module({module!r})\n"
        "import grpc\n"
    )
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}", "PATH": os.environ["PATH"]}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    assert ended.stdout.split() == ["ERROR"]
