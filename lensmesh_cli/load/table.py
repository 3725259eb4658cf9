"""The table that `lensmesh bench` prints, and the same figures for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table

from lensmesh_cli.load.plan import Row

_COLUMNS = ("", "items/s", "p50 ms", "p95 ms", "p99 ms", "queue", "decode", "forward", "batch", "errors", "cached")


def table(rows: Sequence[Row]) -> Table:
    """Return a table with one line for each measurement. Times within the service are means, in milliseconds."""
    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for name in _COLUMNS:
        drawn.add_column(name, justify="right" if name else "left")
    for row in rows:
        found = row.figures
        latency, split = found.latency_ms, found.split_ms
        drawn.add_row(
            row.name,
            number(found.rate),
            *([""] * 3 if latency is None else map(number, (latency.p50, latency.p95, latency.p99))),
            *([""] * 4 if split is None else map(number, (split.queue, split.decode, split.forward, split.batch))),
            ", ".join(f"{count} {reason}" for reason, count in found.errors.items()),
            str(found.cached or ""),
        )
    return drawn


def as_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Return every figure of every row."""
    return [asdict(row) for row in rows]


def number(value: float) -> str:
    """Format a number with three digits, more where they stand before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
