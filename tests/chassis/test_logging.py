"""Logs: one stream for structlog and the standard library, with the call and the span, without local variables."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider

from lensmesh_chassis.rpc.request_id import request_id
from lensmesh_chassis.telemetry.logging import configure_logging, get_logger


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What is logged; the process' logging is put back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    quiet = {name: logging.getLogger(name).level for name in logging.Logger.manager.loggerDict}
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in quiet.items():
        logging.getLogger(name).setLevel(before)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def configure(stream: io.StringIO, level: str = "info", format_: str = "json") -> None:
    configure_logging(level, format_, service="fake", instance="replica-1", stream=stream)


def test_every_logger_ends_in_the_same_json(stream: io.StringIO) -> None:
    configure(stream)
    get_logger("a").info("one", items=3)
    structlog.get_logger("b").info("two", items=4)
    logging.getLogger("c").info("three %s", "words", extra={"items": 5})
    one, two, three = events(stream)
    assert [event["event"] for event in (one, two, three)] == ["one", "two", "three words"]
    assert [event["items"] for event in (one, two, three)] == [3, 4, 5]
    for event in (one, two, three):
        assert event["service"] == "fake"
        assert event["instance"] == "replica-1"
        assert event["level"] == "info"
        assert event["timestamp"].endswith("Z")


def test_the_call_and_the_span_are_named(stream: io.StringIO) -> None:
    configure(stream)
    provider = TracerProvider(shutdown_on_exit=False)
    token = request_id.set("call-3")
    with provider.get_tracer("test").start_as_current_span("work") as span:
        get_logger("a").info("inside")
    request_id.reset(token)
    get_logger("a").info("outside")
    inside, outside = events(stream)
    assert inside["request_id"] == "call-3"
    assert inside["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert inside["span_id"] == f"{span.get_span_context().span_id:016x}"
    assert not {"request_id", "trace_id", "span_id"} & outside.keys()


@pytest.mark.parametrize("format_", ["json", "console"])
def test_a_traceback_shows_no_local_variables(stream: io.StringIO, format_: str) -> None:
    configure(stream, format_=format_)
    _fail_with("hunter2")
    assert "ZeroDivisionError" in stream.getvalue()
    assert "Traceback" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def _fail_with(password: str) -> None:
    try:
        _ = len(password) / 0
    except ZeroDivisionError:
        get_logger("a").exception("it broke")
        logging.getLogger("b").exception("it broke")


def test_a_terminal_obeys_nothing_that_a_stranger_sent(stream: io.StringIO) -> None:
    configure(stream, format_="console")
    orders = "\x1b]0;title\x07\x9b2J\r\u202e\n"
    get_logger("a").warning("refused", details=f"the field {orders} is unknown")
    logging.getLogger("b").warning("heard %s", orders)
    try:
        raise ValueError(orders)
    except ValueError:
        get_logger("a").exception("it broke")
    assert not set(orders) - set("]0;title2J\n") & set(stream.getvalue())
    assert "\\x1b]0;title" in stream.getvalue()
    # The traceback keeps its lines, and nobody else gets one.
    assert [line for line in stream.getvalue().splitlines() if line.startswith("Traceback")]
    assert len([line for line in stream.getvalue().splitlines() if "is unknown" in line or "heard" in line]) == 2


def test_levels_hold_for_all(stream: io.StringIO) -> None:
    configure(stream, level="warning")
    get_logger("a").info("quiet")
    structlog.get_logger("b").info("quiet")
    logging.getLogger("c").info("quiet")
    get_logger("a").warning("loud")
    assert [event["event"] for event in events(stream)] == ["loud"]


def test_warnings_are_logged(stream: io.StringIO) -> None:
    configure(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("mind the gap", stacklevel=1)
    assert "mind the gap" in stream.getvalue()


def test_auto_is_json_where_nobody_reads(stream: io.StringIO) -> None:
    configure(stream, format_="auto")
    get_logger("a").info("one")
    assert events(stream)[0]["event"] == "one"


def test_an_unconfigured_program_hears_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    get_logger("lensmesh.unheard").info("one")
    assert capfd.readouterr() == ("", "")
