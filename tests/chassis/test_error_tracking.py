"""Unexpected errors, sent to a Sentry server: which ones, with what, and above all without what."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider

from lensmesh_chassis.channels import OWN_CONNECTIONS
from lensmesh_chassis.errors import InternalFault, InvalidInput, Unavailable
from lensmesh_chassis.process.server import Runtime
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status
from lensmesh_chassis.settings import SettingsError, load_settings
from lensmesh_chassis.telemetry.error_tracking import (
    ErrorTracking,
    capture,
    only_what_may_leave,
    start_error_tracking,
    stop_error_tracking,
)
from tests.chassis.conftest import Serve
from tests.chassis.sentry_sink import SentrySink
from tests.support.every_shape import SHAPES, call, finish, settings
from tests.support.service_main import FakeSettings
from tests.support.service_process import process, until_serving
from tests.support.waiting import until

IMAGE = b"\x89PNG-MARKED-image"
QUERY = "MARKED-query: who is this?"
PASSWORD = "MARKED-password"


@pytest.fixture
def sink() -> Iterator[SentrySink]:
    """A server that listens; what this process reports goes there."""
    with SentrySink() as one:
        start_error_tracking(settings(sentry_dsn=one.dsn, sentry_environment="test", instance="replica-1"), "fake")
        yield one
        stop_error_tracking()


def broken(image: bytes, query: str, store_url: str) -> RuntimeError:
    """An error that carries secrets wherever one can: message, cause, notes, arguments, locals of its frames."""
    scratch = {"image": image, "query": query}
    try:
        try:
            raise ExceptionGroup(f"parts of {query}", [ValueError(f"no image: {image!r}"), OSError(5, query)])
        except ExceptionGroup as error:
            error.add_note(f"from {scratch}")
            raise RuntimeError(f"cannot reach {store_url}", image, query) from error
    except RuntimeError as error:
        return error


async def test_a_bug_is_reported_with_its_call_and_nothing_of_its_content(serve: Serve, sink: SentrySink) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    async with serve(tracer_provider=provider) as served:
        served.app.shapes.fault = broken(IMAGE, QUERY, f"postgresql://user:{PASSWORD}@db/x?dsn={sink.dsn}")
        for method in ("UnaryUnary", "StreamStream"):
            rpc = call(served.channel, method, [QUERY], metadata=(("x-request-id", f"call-{method}"),))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await finish(rpc)
            assert caught.value.code() is grpc.StatusCode.INTERNAL
    stop_error_tracking()
    events = sink.events()
    assert [event["transaction"] for event in events] == [f"/{SHAPES}/UnaryUnary", f"/{SHAPES}/StreamStream"]
    for event, method in zip(events, ("UnaryUnary", "StreamStream"), strict=True):
        assert event["tags"] == {"service": "fake", "method": f"/{SHAPES}/{method}", "request_id": f"call-{method}"}
        assert event["environment"] == "test"
        assert event["server_name"] == "replica-1"
        assert event["release"].startswith("lensmesh@")
        assert len(event["contexts"]["trace"]["trace_id"]) == 32
        values = event["exception"]["values"]
        assert {value["type"] for value in values} >= {"RuntimeError", "ExceptionGroup"}
        frames = [frame for value in values for frame in value["stacktrace"]["frames"]]
        assert "broken" in {frame["function"] for frame in frames}
        assert "tests.support.every_shape" in {frame["module"] for frame in frames}
        assert all(set(frame) == {"function", "module", "filename", "lineno", "in_app"} for frame in frames)
        assert all(set(value) == {"type", "module", "stacktrace"} for value in values)
    everything = b"".join(sink.bodies)
    for secret in (b"MARKED", b"dsnkey", b"dsnsecret", b"postgresql:", b"who is this"):
        assert secret not in everything


def test_what_a_caller_did_wrong_and_what_passes_by_itself_is_not_reported(sink: SentrySink) -> None:
    to_status(InvalidInput(Reason.TEXT_EMPTY, "texts[0] is empty"))
    to_status(Unavailable(Reason.STORE_UNAVAILABLE, "the store is away"))
    # A peer's, as it came: that one has reported it.
    to_status(InternalFault(Reason.INTERNAL, "Internal error", metadata={"request_id": "r1"}))
    stop_error_tracking()
    assert sink.bodies == []


def test_a_fault_that_is_told_in_words_is_reported_by_its_reason(sink: SentrySink) -> None:
    error = InternalFault(Reason.MODEL_FAILED, f"failed on {QUERY}")
    error.__cause__ = broken(IMAGE, QUERY, PASSWORD)
    to_status(error)
    stop_error_tracking()
    [event] = sink.events()
    assert event["tags"] == {"service": "fake", "reason": "MODEL_FAILED"}
    assert "RuntimeError" in {value["type"] for value in event["exception"]["values"]}
    assert b"MARKED" not in sink.bodies[0]


def test_a_flood_is_cut(sink: SentrySink) -> None:
    for _ in range(50):
        capture(ValueError("again"))
    stop_error_tracking()
    assert 0 < len(sink.bodies) <= 10


def test_what_cannot_be_reported_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    tracking = ErrorTracking(settings(sentry_dsn="http://key@127.0.0.1:1/1"), "fake")
    tracking._client = None  # type: ignore[assignment] # as if the SDK had a fault of its own
    tracking.capture(ValueError(QUERY))
    assert "could not be reported: AttributeError" in caplog.text
    assert "MARKED" not in caplog.text


def test_only_what_is_listed_leaves() -> None:
    """Whatever another release of the SDK adds."""
    unsafe = {
        "event_id": "1",
        "message": QUERY,
        "logentry": {"message": QUERY},
        "extra": {"sys.argv": [QUERY]},
        "request": {"data": QUERY},
        "user": {"ip_address": "MARKED"},
        "breadcrumbs": {"values": [{"message": QUERY}]},
        "contexts": {"trace": {"trace_id": "t", "data": QUERY}, "state": {"value": QUERY}},
        "exception": {
            "values": [
                {
                    "type": "ValueError",
                    "value": QUERY,
                    "mechanism": {"data": {"query": QUERY}},
                    "stacktrace": {"frames": [{"function": "f", "vars": {"q": QUERY}, "context_line": QUERY}]},
                },
                {"type": "KeyError", "value": QUERY, "stacktrace": None},
            ]
        },
    }
    sent = only_what_may_leave(unsafe, {"exc_info": QUERY})
    assert "MARKED" not in repr(sent)
    assert sent["event_id"] == "1"
    assert sent["contexts"] == {"trace": {"trace_id": "t"}}
    assert [value["type"] for value in sent["exception"]["values"]] == ["ValueError", "KeyError"]


def test_without_a_dsn_nothing_is_imported_and_nothing_reported() -> None:
    program = (
        "import sys\n"
        "from lensmesh_chassis.telemetry.error_tracking import capture, start_error_tracking\n"
        "from lensmesh_chassis.settings import ServiceSettings\n"
        "import lensmesh_chassis.process.server\n"
        "start_error_tracking(ServiceSettings(), 'fake')\n"
        "capture(ValueError())\n"
        "sys.exit('sentry_sdk' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("dsn", ["nonsense-MARKED", "https://sentry.example.org/1", "https://MARKED@example.org/name"])
def test_a_malformed_dsn_is_refused_unseen(monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    monkeypatch.setenv("LENSMESH_FAKE_SENTRY_DSN", dsn)
    with pytest.raises(SettingsError) as caught:
        load_settings(FakeSettings)
    assert str(caught.value) == (
        "LENSMESH_FAKE_SENTRY_DSN is wrong: write the DSN as the project's settings show it: "
        "https://KEY@HOST/PROJECT_NUMBER"
    )


def test_a_missing_package_is_named_with_its_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMESH_FAKE_SENTRY_DSN", "https://key@example.org/1")
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    with pytest.raises(SettingsError, match=r'sentry-sdk is not installed: pip install "lensmesh\[sentry\]"'):
        load_settings(FakeSettings)


@pytest.mark.parametrize(
    ("mode", "type_", "reason"), [("breaks", "ValueError", None), ("refuses", "Unavailable", "STORE_UNAVAILABLE")]
)
async def test_a_start_that_fails_is_reported(tmp_path: Path, mode: str, type_: str, reason: str | None) -> None:
    with SentrySink() as sink:
        async with process(tmp_path, mode, SENTRY_DSN=sink.dsn) as one:
            assert await one.ended() == 1
            said = await one.said()
        [event] = sink.events()
    assert event["exception"]["values"][-1]["type"] == type_
    assert event["tags"].get("reason") == reason
    assert b"db:5432" not in sink.bodies[0]
    assert "dsnkey" not in said


@pytest.mark.parametrize("away", [True, False])
async def test_a_server_that_is_away_or_hangs_holds_nothing_up(tmp_path: Path, away: bool) -> None:
    """Calls are answered and the process ends while no report has been taken."""
    with SentrySink() as sink:
        sink.hold.clear()
        dsn = "http://key@127.0.0.1:1/1" if away else sink.dsn
        async with process(tmp_path, "fails", SENTRY_DSN=dsn) as one:
            found = await one.addresses()
            async with grpc.aio.insecure_channel(found["addresses"][0], [OWN_CONNECTIONS]) as channel:
                await until_serving(channel)
                # Few enough for what they log to fit into the pipe, which nobody reads meanwhile.
                answers = await asyncio.gather(
                    *(finish(call(channel, "UnaryUnary")) for _ in range(8)), return_exceptions=True
                )
                await until(lambda: away or bool(sink.bodies))
            codes = {answer.code() for answer in answers if isinstance(answer, grpc.aio.AioRpcError)}
            assert codes == {grpc.StatusCode.INTERNAL}
            assert len(answers) == 8
            one.process.send_signal(signal.SIGTERM)
            assert await one.ended() == 0
        assert not sink.hold.is_set()


async def test_a_runtime_inside_this_process_reports_nothing(serve: Serve) -> None:
    """`running`, for tests, touches nothing of the process, whatever its settings say."""
    with SentrySink() as sink:
        async with serve(sentry_dsn=sink.dsn) as served:
            assert isinstance(served.server.runtime, Runtime)
            served.app.shapes.fault = ValueError("a bug")
            with pytest.raises(grpc.aio.AioRpcError):
                await finish(call(served.channel, "UnaryUnary"))
        assert sink.bodies == []
