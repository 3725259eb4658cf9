"""Two charts in one file: throughput as bars, latency against offered load. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from lensmesh_cli.load.figures import Latency, LoadFigures

INSTALL = "a chart needs matplotlib, which is not installed: pip install matplotlib"


def draw(path: Path, title: str, bars: Sequence[tuple[str, float, float, float]], load: Sequence[LoadFigures]) -> None:
    """Write the charts as PNG, SVG or PDF, by the path's suffix.

    `bars` are name, items a second, and the smallest and largest of the rounds. `load` are open loops, any number for
    each rate; their median is drawn. Raises ImportError.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2 + 0.35 * len(bars) + (3.5 if load else 0)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize="medium")
    rows = figure.subplots(2 if load else 1, 1, squeeze=False)[:, 0]
    _bars(rows[0], bars)
    if load:
        _load(rows[1], load)
    figure.savefig(path, dpi=120)


def _bars(axes: object, bars: Sequence[tuple[str, float, float, float]]) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    names = [name for name, *_ in bars]
    rates = [rate for _, rate, _, _ in bars]
    spread = ([rate - low for _, rate, low, _ in bars], [high - rate for _, rate, _, high in bars])
    drawn = axes.barh(names, rates, xerr=spread, color="#4878a8", ecolor="#333333")
    axes.bar_label(drawn, labels=[f"{rate:.3g}" for rate in rates], padding=4, fontsize="small")
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("items a second")


def _load(axes: object, load: Sequence[LoadFigures]) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    found: dict[float, list[Latency]] = {}
    for one in load:
        if one.offered is not None and one.latency_ms is not None:
            found.setdefault(one.offered, []).append(one.latency_ms)
    rates = sorted(found)
    for name in ("p50", "p95", "p99"):
        middle = [median(getattr(latency, name) for latency in found[rate]) for rate in rates]
        axes.plot(rates, middle, marker="o", label=name)
    axes.set(xlabel="offered, items a second", ylabel="milliseconds", yscale="log")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
