"""A collector that is absent, mute, slow or gone in the middle: no call is lost or waits, one line says it."""

import asyncio
import json
import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.telemetry.exporting import OutageLoggingExporter, quieten
from tests.chassis.collectors import closed_port, collecting, mute
from tests.support.every_shape import call, finish
from tests.support.service_process import Process, process, until_serving
from tests.support.waiting import until

WARNING = "traces do not reach their collector"
SLOW = "traces come faster than their collector takes them"
BACK = "traces reach their collector again"
CALLS = 300
# Small and quick: the queue of spans overflows, and many attempts fail while the test runs.
QUICK = {
    "OTEL_BSP_SCHEDULE_DELAY": "20",
    "OTEL_BSP_MAX_QUEUE_SIZE": "16",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
}


def environment(port: int) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", **QUICK}


async def many_calls(address: str) -> None:
    """Every one is answered."""
    async with open_channel(address) as channel:
        await until_serving(channel)
        for _ in range(CALLS // 50):
            answers = await asyncio.gather(*(finish(call(channel, "UnaryUnary", timeout=60)) for _ in range(50)))
            assert answers == [["a"]] * 50


class Log:
    """What a process says, read as it says it: a pipe that nobody reads fills up and stops it."""

    def __init__(self, running: Process) -> None:
        assert running.process.stderr is not None
        self._pipe = running.process.stderr
        self.lines: list[dict[str, Any]] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for line in self._pipe:
            self.lines.append(json.loads(line))

    def said(self, event: str) -> int:
        """How often."""
        if self._reading.done():
            self._reading.result()
        return sum(str(line["event"]).startswith(event) for line in self.lines)

    async def whole(self) -> list[dict[str, Any]]:
        """All of it, once the process has ended."""
        await self._reading
        return self.lines


@pytest.fixture(params=["absent", "mute"])
def nobody(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port behind which no collector is."""
    with ExitStack() as stack:
        yield closed_port() if request.param == "absent" else stack.enter_context(mute())


async def test_no_collector(tmp_path: Path, nobody: int) -> None:
    async with process(tmp_path, environment=environment(nobody)) as running:
        log = Log(running)
        address = (await running.addresses())["addresses"][0]
        await many_calls(address)
        await until(lambda: log.said(WARNING) > 0)
        await many_calls(address)
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0
        lines = await log.whole()
    told = [line for line in lines if line["level"] in ("warning", "error", "critical")]
    assert [line["event"].split(":")[0] for line in told] == [WARNING]
    assert told[0]["collector"].endswith(str(nobody))


async def test_a_collector_that_goes_and_comes_back(tmp_path: Path) -> None:
    async with collecting() as (first, port):
        async with process(tmp_path, environment=environment(port)) as running:
            log = Log(running)
            address = (await running.addresses())["addresses"][0]
            await many_calls(address)
            await until(lambda: bool(first.names))
            # Slow, then gone.
            first.answers.clear()
            await many_calls(address)
            await until(lambda: log.said(WARNING) == 1)
            await many_calls(address)
        assert running.process.returncode is not None
    assert log.said(WARNING) == 1


async def test_spans_arrive_again_once_the_collector_is_back(tmp_path: Path) -> None:
    port = closed_port()
    async with process(tmp_path, environment=environment(port)) as running:
        log = Log(running)
        address = (await running.addresses())["addresses"][0]
        await many_calls(address)
        await until(lambda: log.said(WARNING) == 1)
        async with collecting(port) as (collector, _):
            # Spans can have arrived without their sender knowing, where the answer came too late: others tell it.
            async def back() -> bool:
                await many_calls(address)
                return log.said(BACK) >= 1

            await until(back, seconds=300)
            assert collector.names
    # On a busy machine an answer can take longer than a second once more: that is an absence of its own.
    assert log.said(WARNING) - log.said(BACK) in (0, 1)


class Listed(SpanExporter):
    """Answers what it was given, in turn."""

    def __init__(self, results: Sequence[SpanExportResult]) -> None:
        self._results = iter(results)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return next(self._results)


def test_each_absence_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lost, arrived = SpanExportResult.FAILURE, SpanExportResult.SUCCESS
    results = [arrived, lost, lost, lost, arrived, arrived, lost, lost, arrived]
    exporter = OutageLoggingExporter(Listed(results), "collector:4317")
    span: Any = object()
    for expected in results:
        assert exporter.export([span, span]) is expected
    told = [(record.levelname, record.getMessage().split(":")[0]) for record in caplog.records]
    assert told == [("WARNING", WARNING), ("INFO", BACK)] * 2
    assert [record.__dict__.get("lost_spans") for record in caplog.records] == [None, 6, None, 4]


class Late(SpanExporter):
    """Answers well, but not before it is let."""

    def __init__(self) -> None:
        self.asked, self.answers = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        assert self.answers.wait(60)
        return SpanExportResult.SUCCESS


def test_a_collector_that_is_too_slow_is_told_of_once_and_again_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    late = Late()
    exporter = OutageLoggingExporter(late, "collector:4317", quieten())
    processor = BatchSpanProcessor(exporter, max_queue_size=4, max_export_batch_size=1, schedule_delay_millis=1)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("test")

    def too_many() -> None:
        late.asked.clear()
        late.answers.clear()
        tracer.start_span("first").end()
        # The one that it works on is out of the queue, which holds four: six find no room.
        assert late.asked.wait(60)
        for _ in range(10):
            tracer.start_span("one more").end()
        late.answers.set()
        assert processor.force_flush()

    try:
        too_many()
        too_many()
        monkeypatch.setattr("lensmesh_chassis.telemetry.exporting._QUIET_SECONDS", 0.0)
        too_many()
    finally:
        late.answers.set()
        provider.shutdown()
    told = [(record.levelname, record.getMessage().split(":")[0]) for record in caplog.records]
    assert told == [("WARNING", SLOW)] * 2
    assert [record.__dict__.get("dropped_spans") for record in caplog.records] == [6, 6]
