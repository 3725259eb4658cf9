"""The report of a soak: a table for people, JSON for programs, a chart for both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.soak.samples import Sample
from bench.soak.verdict import Grown, warm_up_s

TITLES = {
    "memory_mib": "memory, MiB",
    "threads": "threads",
    "tasks": "tasks",
    "descriptors": "descriptors",
    "queue_mib": "queue, MiB",
}


def table(rows: Sequence[Grown]) -> str:
    """Return a Markdown table of each quantity of each service, after the warm-up and at the end."""
    lines = ["| service | | after warm-up | at the end | most | may grow by | |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        said = "" if row.fine else "**grown**"
        numbers = f"{row.begin:.1f} | {row.end:.1f} | {row.most:.1f}"
        lines.append(f"| {row.service} | {TITLES[row.quantity]} | {numbers} | {row.tolerance} | {said} |")
    return "\n".join(lines)


def as_json(head: Mapping[str, Any], samples: Mapping[str, Sequence[Sample]], rows: Sequence[Grown]) -> dict[str, Any]:
    """Return everything for programs."""
    return {
        **head,
        "rows": [asdict(row) for row in rows],
        "samples": {name: [asdict(sample) for sample in found] for name, found in samples.items()},
    }


def draw(path: Path, samples: Mapping[str, Sequence[Sample]], seconds: float, quantities: Sequence[str]) -> None:
    """Draw each quantity over time, a line for each service. The time of the warm-up is grey."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(quantities), 1, figsize=(8, 2.2 * len(quantities)), sharex=True, squeeze=False)
    for axis, quantity in zip(axes[:, 0], quantities, strict=True):
        for name, found in samples.items():
            axis.plot([one.at_s for one in found], [getattr(one, quantity) for one in found], label=name, linewidth=1.2)
        axis.axvspan(0, warm_up_s(seconds), color="0.92")
        axis.set_ylabel(TITLES[quantity])
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0, 0].legend(ncols=len(samples), fontsize="small", loc="lower right")
    axes[-1, 0].set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
