"""The figures as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lensmesh_cli.printable import printable
from lensmesh_cli.top.figures import EngineFigures, Ingest, MeshFigures, Method, Operation, Process, Spread

_NOTHING = "·"
WIDE = 1000
"""The columns of a frame that is not cut, as in a file."""
GAP = 2


def frame(figures: MeshFigures, interval_s: float, width: int = WIDE) -> RenderableType:
    """Draw one frame for a terminal of `width` columns, or for plain text.

    A narrow one leaves out what matters least.
    """
    parts: list[RenderableType] = [_processes(figures.processes, interval_s, width)]
    if figures.ingest is not None:
        parts.append(_ingest(figures.ingest, width))
    if figures.methods:
        parts.append(_methods(figures.methods, width))
    if figures.engines:
        parts.append(_engines(figures.engines, width))
    if figures.store:
        parts.append(_store(figures.store, width))
    return Group(*(line for part in parts for line in (part, "")))


def _table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str | Text]],
    width: int,
    *,
    words: int = 1,
    least: Sequence[str] = (),
) -> Table:
    """Make a table whose first `words` columns hold words. Where it is too wide, columns of `least` are left out."""
    shown = list(range(len(columns)))
    needs = [max(cell_len(str(cell)) for cell in (columns[place], *(row[place] for row in rows))) for place in shown]
    for name in least:
        if sum(needs[place] + GAP for place in shown) - GAP <= width:
            break
        shown.remove(columns.index(name))
    table = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=False)
    for place in shown:
        table.add_column(columns[place], justify="left" if place < words else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(row[place] for place in shown))
    return table


def _processes(processes: list[Process], interval_s: float, width: int) -> Table:
    columns = ("service", "metrics", "health", "calls/s", "errors/s", "in flight", "loop lag p99", "CPU", "memory")
    rows: list[list[str | Text]] = []
    for one in processes:
        name, address = printable(one.service) or _NOTHING, printable(one.address)
        if one.failure:
            rows.append([name, address, Text(f"no answer: {printable(one.failure)}", "red"), *[""] * 7])
            continue
        rows.append(
            [
                name,
                address,
                Text("serving", "green") if one.serving else Text("not serving", "yellow"),
                _number(one.calls_per_s),
                _bad(one.errors_per_s),
                _number(one.in_flight),
                _time(one.lag_p99_s),
                f"{one.cpu:.2f}",
                f"{one.memory_bytes / 1e6:.0f} MB",
                _number(one.restarts),
            ]
        )
    return _table(
        f"Services, over {interval_s:g} s",
        (*columns, "restarts"),
        rows,
        width,
        words=3,
        least=("metrics", "loop lag p99", "restarts", "in flight", "CPU", "calls/s", "memory"),
    )


def _methods(methods: list[Method], width: int) -> Table:
    rows: list[list[str | Text]] = [
        [one.service, one.method, _number(one.calls_per_s), _bad(one.errors_per_s), *_times(one.seconds)]
        for one in sorted(methods, key=lambda one: (-one.errors_per_s, -one.calls_per_s))
    ]
    columns = ("service", "method", "calls/s", "errors/s", "p50", "p95", "p99")
    return _table("Calls", columns, rows, width, words=2, least=("p50", "p99", "p95"))


def _engines(engines: list[EngineFigures], width: int) -> Table:
    columns = ("service", "model", "items/s", "interactive", "bulk", "full", "wait", "batch", "busy", "cached")
    rows = [
        [
            one.service,
            printable(one.model),
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
        ]
        for one in engines
    ]
    least = ("forward p50", "forward p95", "queue p95", "cached", "batch", "interactive", "bulk", "model")
    return _table("Engines", (*columns, "queue p95", "forward p50", "forward p95"), rows, width, words=2, least=least)


def _ingest(ingest: Ingest, width: int) -> Table:
    outcomes = ("created", "updated", "unchanged", "refused", "failed", "cancelled")
    rates = [_number(ingest.items_per_s.get(outcome, 0.0)) for outcome in outcomes]
    row = [*rates, _number(ingest.in_flight_items), f"{ingest.in_flight_bytes / 1e6:.1f} MB", *_times(ingest.seconds)]
    columns = (*outcomes, "in flight", "bytes", "p50", "p95", "p99")
    least = ("bytes", "p50", "p99", "p95", "cancelled")
    return _table("Ingest, items/s", columns, [row], width, words=0, least=least)


def _store(operations: list[Operation], width: int) -> Table:
    rows: list[list[str | Text]] = [
        [one.operation, _number(one.per_s), _bad(one.errors_per_s), *_times(one.seconds)]
        for one in sorted(operations, key=lambda one: (-one.errors_per_s, -one.per_s))
    ]
    return _table("Store", ("operation", "ops/s", "errors/s", "p50", "p95", "p99"), rows, width, least=("p50", "p99"))


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
