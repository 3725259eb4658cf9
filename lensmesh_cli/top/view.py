"""The figures as tables."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lensmesh_cli.top.figures import Engine, Figures, Ingest, Method, Operation, Process, Spread

_NOTHING = "·"


def frame(figures: Figures, interval_s: float) -> RenderableType:
    """One frame, for a terminal or for plain text."""
    parts: list[RenderableType] = [_processes(figures.processes, interval_s)]
    if figures.methods:
        parts.append(_methods(figures.methods))
    if figures.engines:
        parts.append(_engines(figures.engines))
    if figures.ingest is not None:
        parts.append(_ingest(figures.ingest))
    if figures.store:
        parts.append(_store(figures.store))
    return Group(*(line for part in parts for line in (part, "")))


def _table(title: str, *columns: str, words: int = 1) -> Table:
    """The first `words` columns hold words, the others numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place < words else "right", no_wrap=place >= words)
    return table


def _processes(processes: list[Process], interval_s: float) -> Table:
    table = _table(
        f"Services, over {interval_s:g} s",
        *("service", "metrics", "health"),
        *("calls/s", "errors/s", "in flight", "loop lag p99", "CPU", "memory", "restarts"),
        words=3,
    )
    for one in processes:
        if one.failure:
            table.add_row(one.service or _NOTHING, one.address, Text(f"no answer: {one.failure}", "red"))
            continue
        table.add_row(
            one.service,
            one.address,
            Text("serving", "green") if one.serving else Text("not serving", "yellow"),
            _number(one.calls_per_s),
            _bad(one.errors_per_s),
            _number(one.in_flight),
            _time(one.lag_p99_s),
            f"{one.cpu:.2f}",
            f"{one.memory_bytes / 1e6:.0f} MB",
            _number(one.restarts),
        )
    return table


def _methods(methods: list[Method]) -> Table:
    table = _table("Calls", "service", "method", "calls/s", "errors/s", "p50", "p95", "p99", words=2)
    for one in methods:
        table.add_row(one.service, one.method, _number(one.calls_per_s), _bad(one.errors_per_s), *_times(one.seconds))
    return table


def _engines(engines: list[Engine]) -> Table:
    table = _table(
        "Engines",
        *("service", "model", "items/s", "interactive", "bulk", "full", "wait", "batch", "busy", "cached"),
        *("queue p95", "forward p50", "forward p95"),
        words=2,
    )
    for one in engines:
        table.add_row(
            one.service,
            one.model,
            _number(one.items_per_s),
            _number(one.queued.get("interactive", 0)),
            _number(one.queued.get("bulk", 0)),
            f"{one.full:.0%}",
            _time(one.wait_s),
            _NOTHING if one.batch_items is None else f"{one.batch_items:.1f}",
            f"{one.busy:.0%}",
            _NOTHING if one.cached is None else f"{one.cached:.0%}",
            _time(one.queue.p95),
            _time(one.forward.p50),
            _time(one.forward.p95),
        )
    return table


def _ingest(ingest: Ingest) -> Table:
    outcomes = ("created", "updated", "unchanged", "refused", "failed", "cancelled")
    table = _table("Ingest, items/s", *outcomes, "in flight", "bytes", "p50", "p95", "p99", words=0)
    rates = [_number(ingest.items_per_s.get(outcome, 0.0)) for outcome in outcomes]
    table.add_row(
        *rates, _number(ingest.in_flight_items), f"{ingest.in_flight_bytes / 1e6:.1f} MB", *_times(ingest.seconds)
    )
    return table


def _store(operations: list[Operation]) -> Table:
    table = _table("Store", "operation", "ops/s", "errors/s", "p50", "p95", "p99")
    for one in operations:
        table.add_row(one.operation, _number(one.per_s), _bad(one.errors_per_s), *_times(one.seconds))
    return table


def _number(value: float) -> str:
    if not value:
        return "0"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def _bad(value: float) -> Text:
    return Text(_number(value), "red" if value else "")


def _times(spread: Spread) -> tuple[str, str, str]:
    return _time(spread.p50), _time(spread.p95), _time(spread.p99)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return _NOTHING
    if seconds == 0:
        return "0"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
