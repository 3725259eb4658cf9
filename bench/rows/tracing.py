"""Calls of which every one is traced and sent to a collector, beside calls without an exporter."""

from __future__ import annotations

from collections.abc import Mapping

from bench.figures import Target
from bench.measure import Results
from bench.rounds import Part, in_rounds, times
from bench.rows.group import Group, Row, Say
from bench.rows.sides import sides
from bench.services import Service
from bench.stage import NO_CACHE, Stage
from bench.worker import Worker, WorkerError

CALLERS = 4
# Every call kept, and spans sent all the time, so that sending them is part of what is measured.
EVERY = {"OTEL_TRACES_SAMPLER": "always_on", "LENSMESH_TRACES_BULK_RATIO": "1", "OTEL_BSP_SCHEDULE_DELAY": "200"}


async def measure(stage: Stage, results: Results, say: Say) -> None:
    """Measure EncodeTexts of one text by an Encoder without a model, where tracing is the most of all."""
    sink = await stage.worker("sink", "bench.bare.sink")
    press = await stage.worker("press", "bench.workers.press", str(stage.images))
    collector = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{await sink.ask('address')}"}
    parts: dict[str, Part] = {}
    for side in sides(stage):
        for mode, name, tracing in (("off", "mock", {}), ("every", "traced", {**EVERY, **collector})):
            environment = {**side.environment, **tracing}
            settings = {"MODEL": "mock", **NO_CACHE}
            encoder = await stage.service("encoder", f"{side.prefix}{name}", settings, environment)
            key = f"{side.prefix}{mode}"
            parts[key] = _calls(stage, press, encoder, f"tracing/{key}", sink if tracing else None)
    await in_rounds(parts, results, rounds=stage.options.rounds, say=say)


def _calls(stage: Stage, press: Worker, encoder: Service, key: str, sink: Worker | None) -> Part:
    async def part() -> Mapping[str, float]:
        before = await sink.ask("calls") if sink else 0
        found = await press.ask(
            "unary",
            address=encoder.address,
            pids={"server": encoder.pid},
            items="texts",
            callers=CALLERS,
            seconds=stage.options.seconds,
            warm=stage.options.warm,
        )
        if sink and await sink.ask("calls") == before:
            raise WorkerError("no span was sent")
        return {f"{key}_{figure}": value for figure, value in found.items()}

    return part


_EVERY, _OFF = "tracing/every_server_cpu_ms", "tracing/off_server_cpu_ms"
GROUP = Group(
    measure,
    (Row("EncodeTexts of 1, mock, every call traced: server CPU", _EVERY, _OFF, "without an exporter"),),
    (Target("every call traced, server CPU of one without an exporter", 1.25, times(_EVERY, _OFF), at="most"),),
)
