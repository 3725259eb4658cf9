"""Calls of an Encoder without a model, beside a bare echo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.figures import Target
from bench.measure import Results, Spread
from bench.rounds import Part, in_rounds, times
from bench.rows.group import Group, Row, Say
from bench.rows.sides import sides
from bench.services import Service
from bench.stage import NO_CACHE, Stage
from bench.worker import Worker

MESSAGE = 32
# A text is to cost no more than the larger of these.
TEXT_CPU_MS, TEXT_OF_ECHO = 0.12, 0.2


async def measure(stage: Stage, results: Results, say: Say) -> None:
    """Measure the least call, a text at a time, and texts in a stream."""
    turns = await stage.worker("turns", "bench.workers.turns")
    press = await stage.worker("press", "bench.workers.press", str(stage.images))
    ways: dict[str, list[dict[str, Any]]] = {}
    pids: dict[str, dict[str, int]] = {}
    parts: dict[str, Part] = {}
    for side in sides(stage):
        settings = {"MODEL": "mock", **NO_CACHE}
        encoder = await stage.service("encoder", f"{side.prefix}mock", settings, side.environment)
        if not side.prefix:
            echo = await stage.echo(encoder)
            ways["echo"] = [{"step": "echo", "address": await echo.ask("address")}]
            pids["echo"] = {"server": echo.pid}
        for step in ("info", "text"):
            ways[f"{side.prefix}{step}"] = [{"step": step, "address": encoder.address}]
            pids[f"{side.prefix}{step}"] = {"server": encoder.pid}
        parts[f"{side.prefix}stream"] = _stream(stage, press, encoder, f"calls/{side.prefix}stream")

    async def single() -> Mapping[str, float]:
        found = await turns.ask("turns", ways=ways, pids=pids, seconds=len(ways) * stage.options.seconds)
        return {f"calls/{way}_{figure}": value for way, figures in found.items() for figure, value in figures.items()}

    await in_rounds({"single": single, **parts}, results, rounds=stage.options.rounds, say=say)


def _stream(stage: Stage, press: Worker, encoder: Service, key: str) -> Part:
    async def part() -> Mapping[str, float]:
        found = await press.ask(
            "stream",
            address=encoder.address,
            pids={"server": encoder.pid},
            items="texts",
            message=MESSAGE,
            seconds=stage.options.seconds,
            warm=stage.options.warm,
        )
        return {f"{key}_{figure}": value for figure, value in found.items()}

    return part


def _text_of_bound(results: Results) -> Spread | None:
    texts, echoes = (results.extra.get(f"calls/{way}_server_cpu_ms", ()) for way in ("stream", "echo"))
    found = [text / max(TEXT_CPU_MS, TEXT_OF_ECHO * echo) for text, echo in zip(texts, echoes, strict=False)]
    return Spread.of(found) if found else None


_ECHO = "a bare grpc.aio echo"
_BARE_MS, _BARE_CPU = "calls/echo_p50_ms", "calls/echo_server_cpu_ms"
GROUP = Group(
    measure,
    (
        Row("GetInfo, p50", "calls/info_p50_ms", _BARE_MS, _ECHO),
        Row("GetInfo: server CPU", "calls/info_server_cpu_ms", _BARE_CPU, _ECHO),
        Row("EncodeTexts of 1, mock, p50", "calls/text_p50_ms", _BARE_MS, _ECHO),
        Row("EncodeTexts of 1, mock: server CPU", "calls/text_server_cpu_ms", _BARE_CPU, _ECHO),
        Row(
            f"EncodeStream of texts, mock, {MESSAGE} a message: server CPU a text",
            "calls/stream_server_cpu_ms",
            _BARE_CPU,
            _ECHO,
        ),
    ),
    (
        Target("GetInfo p50 of a bare echo", 1.25, times("calls/info_p50_ms", _BARE_MS), at="most"),
        Target("EncodeTexts of 1, mock, p50 of a bare echo", 1.8, times("calls/text_p50_ms", _BARE_MS), at="most"),
        Target(
            "EncodeTexts of 1, mock, server CPU of a bare echo's",
            2.0,
            times("calls/text_server_cpu_ms", _BARE_CPU),
            at="most",
        ),
        Target(
            f"EncodeStream of texts, CPU a text, of the larger of {TEXT_CPU_MS} ms and {TEXT_OF_ECHO} of an echo's",
            1.0,
            _text_of_bound,
            at="most",
        ),
    ),
)
