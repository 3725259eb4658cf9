"""Drawing of a trace out of Jaeger's query API: who worked on what, when, and which batch carried whom.

python -m docs.draw_trace http://127.0.0.1:16686 TRACE_ID docs/trace.png

One row for each call (its caller's time pale, its server's full), each item, each batch, each operation of the store.
What an item does and waits for, and the statements of the store, are parts of its row.
"""

from __future__ import annotations

import argparse
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import ConnectionPatch, Patch

COLOURS = {"cli": "#6b7280", "router": "#2563a8", "encoder": "#b45309", "caption": "#7c3aad", "search": "#15803d"}
NAMES = {"cli": "client", "router": "Router", "encoder": "Encoder", "caption": "Captioner", "search": "Search"}
OTHER = "#444444"
# Drawn inside the row of what they belong to; darker is work, paler is waiting.
STEPS = {"lookup": 0.45, "encode": 0.95, "caption": 0.95, "write": 0.7}
STAGES = {"decode": 0.75, "tokenize": 0.75, "queue": 0.2, "forward": 1.0}
ROW_INCHES, WIDTH_INCHES = 0.2, 12.0


@dataclass
class Span:
    """A span, with the spans below it."""

    id: str
    name: str
    service: str
    parent: str
    links: list[str]
    attributes: dict[str, Any]
    start_ms: float
    end_ms: float
    below: list[Span] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return str(self.attributes.get("span.kind", "internal"))

    @property
    def is_statement(self) -> bool:
        return "db.system" in self.attributes

    @property
    def is_part(self) -> bool:
        """True where the span is drawn inside its parent's row."""
        return self.name in STEPS or self.name in STAGES or self.is_statement

    @property
    def label(self) -> str:
        """Name of the span's row."""
        if method := self.attributes.get("rpc.method"):
            size = len(self.links)
            carried = f" · {size} item{'' if size == 1 else 's'}" if size else ""
            return f"{NAMES.get(self.service, self.service)} → {method}{carried}"
        if self.name == "item":
            return f"item {self.attributes['lensmesh.item.index']}"
        if self.name == "batch":
            return f"batch of {self.attributes['lensmesh.batch.size']}"
        return self.name


@dataclass(frozen=True)
class Row:
    """A line of the chart."""

    span: Span
    depth: int
    served: Span | None
    """The server's side of a call."""


def fetch(jaeger: str, trace_id: str) -> Span:
    """Return the root of a trace, times in milliseconds from its begin."""
    with urllib.request.urlopen(f"{jaeger.rstrip('/')}/api/traces/{trace_id}", timeout=30) as answer:
        [trace] = json.load(answer)["data"]
    begin = min(span["startTime"] for span in trace["spans"])
    spans = {raw["spanID"]: _read(raw, trace["processes"], begin) for raw in trace["spans"]}
    for span in sorted(spans.values(), key=lambda span: span.start_ms):
        if span.parent in spans:
            spans[span.parent].below.append(span)
    [root] = [span for span in spans.values() if span.parent not in spans]
    return root


def _read(raw: Any, processes: Any, begin_us: int) -> Span:
    parents = [ref["spanID"] for ref in raw["references"] if ref["refType"] == "CHILD_OF"]
    return Span(
        id=raw["spanID"],
        name=raw["operationName"],
        service=processes[raw["processID"]]["serviceName"].removeprefix("lensmesh-"),
        parent=parents[0] if parents else "",
        links=[ref["spanID"] for ref in raw["references"] if ref["refType"] != "CHILD_OF"],
        attributes={tag["key"]: tag["value"] for tag in raw["tags"]},
        start_ms=(raw["startTime"] - begin_us) / 1000,
        end_ms=(raw["startTime"] + raw["duration"] - begin_us) / 1000,
    )


def rows(span: Span, depth: int = 0) -> Iterator[Row]:
    """Yield every row in the order of the tree; a call and its server are one row."""
    served = next((child for child in span.below if child.kind == "server"), None) if span.kind == "client" else None
    yield Row(span, depth, served)
    # Items first, so that one sees them side by side; then what was done for them.
    for child in sorted((served or span).below, key=lambda child: (child.name != "item", child.start_ms)):
        if not child.is_part:
            yield from rows(child, depth + 1)


def _all(span: Span) -> Iterator[Span]:
    yield span
    for child in span.below:
        yield from _all(child)


def draw(root: Span, to: Path) -> None:
    """Write the chart."""
    lines = list(rows(root))
    figure, axes = plt.subplots(figsize=(WIDTH_INCHES, 1.5 + ROW_INCHES * len(lines)), layout="constrained")
    places = {row.span.id: number for number, row in enumerate(lines)}
    places |= {row.served.id: number for number, row in enumerate(lines) if row.served}
    for number, row in enumerate(lines):
        _draw_row(axes, number, row)
    _draw_links(axes, lines, places)
    axes.set_ylim(len(lines) - 0.3, -0.7)
    axes.set_xlim(0, root.end_ms * 1.002)
    axes.set_yticks(range(len(lines)), ["    " * row.depth + row.span.label for row in lines], fontsize=7.5)
    for tick, row in zip(axes.get_yticklabels(), lines, strict=True):
        # Indentation shows the tree, so names begin where the depth says.
        tick.set_horizontalalignment("left")
        tick.set_color(COLOURS.get((row.served or row.span).service, OTHER))
    longest = max(len(row.span.label) + 3 * row.depth for row in lines)
    axes.tick_params(axis="y", length=0, pad=4.3 * longest)
    axes.set_xlabel("milliseconds")
    spans = list(_all(root))
    services = len({span.service for span in spans})
    axes.set_title(f"{root.name}: {len(spans)} spans of {services} processes", loc="left", fontsize=9)
    axes.grid(axis="x", color="#e5e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    present = [name for name in COLOURS if any((row.served or row.span).service == name for row in lines)]
    key: list[Artist] = [Patch(color=COLOURS[name], label=NAMES[name]) for name in present]
    key.append(Patch(facecolor="#9ca3af", alpha=0.35, label="the caller's side of a call"))
    key.append(Line2D([], [], color="#777777", linewidth=0.8, linestyle=(0, (4, 2)), label="a batch and its items"))
    figure.legend(handles=key, loc="outside upper left", ncols=len(key), frameon=False, fontsize=8)
    figure.savefig(to, dpi=140)


def _draw_row(axes: Axes, number: int, row: Row) -> None:
    span, colour = row.span, COLOURS.get(row.span.service, OTHER)
    if row.served is not None:
        _bar(axes, number, span, colour, alpha=0.25)
        _bar(axes, number, row.served, COLOURS.get(row.served.service, OTHER), height=0.5)
        return
    parts = [child for child in span.below if child.is_part]
    _bar(axes, number, span, colour, alpha=0.25 if parts else 0.9)
    # Two steps at the same time share the height.
    together = {"encode": -0.18, "caption": 0.18} if {"encode", "caption"} <= {part.name for part in parts} else {}
    for part in parts:
        alpha = 0.8 if part.is_statement else (STEPS | STAGES)[part.name]
        height = 0.3 if part.name in together else 0.66
        shade = COLOURS[{"encode": "encoder", "caption": "caption"}.get(part.name, span.service)]
        _bar(axes, number + together.get(part.name, 0.0), part, shade, alpha=alpha, height=height)
        if not part.is_statement:
            _name_inside(axes, number + together.get(part.name, 0.0), part, alpha)


def _bar(axes: Axes, y: float, span: Span, colour: str, *, alpha: float = 0.9, height: float = 0.66) -> None:
    width = max(span.end_ms - span.start_ms, 0.05)
    axes.barh(y, width, left=span.start_ms, height=height, color=colour, alpha=alpha, linewidth=0)


def _name_inside(axes: Axes, y: float, part: Span, alpha: float) -> None:
    """Write the name inside its bar, where that is long enough for it to be read."""
    whole = WIDTH_INCHES * 0.75
    root_ms = axes.dataLim.x1 or 1.0
    inches = (part.end_ms - part.start_ms) / root_ms * whole
    if inches > 0.07 * len(part.name):
        axes.text(
            (part.start_ms + part.end_ms) / 2, y + 0.02, part.name, ha="center", va="center",
            fontsize=5.5, color="white" if alpha > 0.4 else "#333333",
        )  # fmt: skip


def _draw_links(axes: Axes, lines: list[Row], places: dict[str, int]) -> None:
    """Draw lines from each batch to the items in it."""
    for number, row in enumerate(lines):
        if row.span.name != "batch":
            continue
        for item in row.span.links:
            if item in places:
                axes.add_patch(
                    ConnectionPatch(
                        (row.span.start_ms, number), (row.span.start_ms, places[item]), "data", "data",
                        arrowstyle="-", color=COLOURS.get(row.span.service, OTHER), alpha=0.8, linewidth=0.8,
                        connectionstyle="arc3,rad=0.1", linestyle=(0, (4, 2)),
                    )
                )  # fmt: skip


def main() -> None:
    """Ask Jaeger and draw."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("jaeger", help="address of the query API, http://127.0.0.1:16686 say")
    asked.add_argument("trace_id", help="as `lensmesh search --trace` prints it, or Jaeger's page")
    asked.add_argument("chart", type=Path, help="PNG or SVG file to write")
    options = asked.parse_args()
    draw(fetch(options.jaeger, options.trace_id), options.chart)


if __name__ == "__main__":
    main()
