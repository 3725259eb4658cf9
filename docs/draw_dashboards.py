"""Drawing of docs/dashboards.png: what the Grafana dashboards show, of a mesh that is really at work.

A mesh runs on this machine with the bundled models (`--mock`: made-up ones) under a load of searches. Some hundred
scenes are streamed in, and the Captioner is killed. A real Prometheus scrapes it all the while, and the panels' own
queries are drawn.

python -m docs.draw_dashboards
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from lensmesh_cli.demo.samples import DemoImage, draw_scenes
from lensmesh_client import Client, IngestItem, LensmeshError
from lensmesh_local.supervisor import MeshOptions, Supervisor
from tests.observability.prometheus import SERVICES, Prometheus, prometheus
from tests.support.tools import find

ROOT = Path(__file__).resolve().parents[1]
DASHBOARDS = ROOT / "deploy" / "observability" / "grafana" / "dashboards"
IMAGE = ROOT / "docs" / "dashboards.png"
SECONDS, INGEST_AT, KILL_AT = 240.0, 30.0, 170.0
SCENES = 600
WINDOW = "20s"

# Dashboard, panel, and the most lines that stay readable.
CHOSEN = (
    ("overview", "Calls", 6),
    ("overview", "Calls that failed, by code", 6),
    ("overview", "95 of 100 unary calls, by method", 5),
    ("overview", "Event loop lag", 4),
    ("ingest", "Items by outcome", 6),
    ("ingest", "Time to durable", 3),
    ("ingest", "Items in flight", 1),
    ("ingest", "95 of 100 batch calls, by step", 5),
    ("engine", "Items held", 4),
    ("engine", "Batch size", 4),
    ("engine", "Predicted wait", 4),
    ("engine", "Device busy", 4),
    ("stores", "Operations", 5),
    ("stores", "Upsert", 3),
    ("stores", "95 of 100, by operation", 5),
    ("stores", "Operations at a time", 5),
)


@dataclass
class Happened:
    """Begin of the run, and what was done to the mesh: seconds after the begin, in words."""

    begin: float
    events: list[tuple[float, str]]


async def search_forever(client: Client, samples: Sequence[DemoImage]) -> None:
    """Make a few searches at a time, and a mistake now and then."""
    number = 0
    while True:
        number += 1
        words = "x" if number % 40 == 0 else samples[number % len(samples)].words or "a red circle"
        collection = "no-such-collection" if number % 40 == 0 else ""
        with contextlib.suppress(LensmeshError):
            await client.search(words, collection=collection, limit=5, timeout_s=10)
        await asyncio.sleep(0.25)


async def happen(mesh: Supervisor, samples: Sequence[DemoImage]) -> Happened:
    """Run the story: searches all along, an ingest, and a Captioner that is killed within it or after it."""
    story = Happened(time.time(), [])

    def at() -> float:
        return time.time() - story.begin

    async with Client(mesh.router) as client:
        await client.ingest(samples[0].path)
        searching = [asyncio.create_task(search_forever(client, samples)) for _ in range(3)]

        async def ingest() -> None:
            await asyncio.sleep(INGEST_AT)
            story.events.append((at(), "ingest begins"))
            items = [IngestItem(sample.path, metadata=sample.metadata) for sample in samples]
            async for _ in client.ingest_many([*items, IngestItem(b"no image")]):
                pass
            story.events.append((at(), "ingest ends"))

        async def kill() -> None:
            await asyncio.sleep(KILL_AT)
            pid = mesh.processes["caption"].pid
            assert pid is not None
            story.events.append((at(), "Captioner killed"))
            os.kill(pid, signal.SIGKILL)
            again = [IngestItem(sample.path, id=f"again-{sample.path.name}") for sample in samples[: SCENES // 6]]
            async for _ in client.ingest_many(again):
                pass

        working = [asyncio.create_task(ingest()), asyncio.create_task(kill())]
        await asyncio.sleep(SECONDS)
        for task in (*searching, *working):
            task.cancel()
        await asyncio.gather(*searching, *working, return_exceptions=True)
    return story


def panel(board: str, title: str) -> dict[str, Any]:
    """Return one panel of a committed dashboard."""
    content = json.loads((DASHBOARDS / f"lensmesh-{board}.json").read_text())
    return next(found for found in content["panels"] if found["title"] == title and found["type"] != "row")


def curves(watched: Prometheus, shown: dict[str, Any], story: Happened, most: int) -> list[tuple[str, Any, Any]]:
    """Return legend, seconds and values of a panel's lines; the highest ones where there are more than `most`."""
    found = []
    for query in shown["targets"]:
        expr = query["expr"].replace("$__rate_interval", WINDOW).replace("$job", ".*").replace("$instance", ".*")
        end = story.begin + SECONDS
        data = watched.get("query_range", query=expr, start=str(story.begin), end=str(end), step="1")
        for series in data["result"]:
            points = [(float(moment) - story.begin, float(value)) for moment, value in series["values"]]
            legend = query["legendFormat"]
            for name, value in series["metric"].items():
                legend = legend.replace(f"{{{{{name}}}}}", value)
            legend = " ".join(word for word in legend.split() if not word.startswith("127.0.0.1:"))
            if any(math.isfinite(value) and value for _, value in points):
                found.append((legend, [moment for moment, _ in points], [value for _, value in points]))

    def height(curve: tuple[str, Any, Any]) -> float:
        return float(sum(value for value in curve[2] if math.isfinite(value)))

    return sorted(sorted(found, key=height, reverse=True)[:most])


def formatted(unit: str) -> FuncFormatter:
    """Return a formatter of an axis' numbers as Grafana writes them."""

    def text(value: float, _: object) -> str:
        match unit:
            case "s":
                return f"{value * 1e3:g} ms" if value < 1 else f"{value:g} s"
            case "bytes":
                return f"{value / 1e6:g} MB"
            case "percentunit":
                return f"{value:.0%}"
            case _:
                return f"{value:g}"

    return FuncFormatter(text)


UNITS = {"reqps": "calls/s", "ops": "per second", "s": "", "bytes": "", "percentunit": "", "short": ""}


def draw_one(axes: Axes, shown: dict[str, Any], lines: list[tuple[str, Any, Any]], story: Happened) -> None:
    """Draw one panel."""
    unit = shown["fieldConfig"]["defaults"]["unit"]
    for legend, moments, values in lines:
        axes.plot(moments, values, label=legend or None, linewidth=1.4)
    axes.set_title(shown["title"] + (f", {UNITS[unit]}" if UNITS.get(unit) else ""), loc="left")
    axes.yaxis.set_major_formatter(formatted(unit))
    axes.set_xlim(0, SECONDS)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(mpl.ticker.MultipleLocator(60))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda second, _: f"{second / 60:.0f} min"))
    for moment, _ in story.events:
        axes.axvline(moment, color="#888", linewidth=0.8, linestyle=(0, (3, 3)), zorder=0)
    if any(legend for legend, _, _ in lines):
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.1), ncols=2, frameon=False)


def draw(watched: Prometheus, story: Happened, about: str) -> None:
    """Draw the whole image."""
    import matplotlib.pyplot as plt

    style: Any = {
        "font.size": 8,
        "font.family": "DejaVu Sans",
        "axes.titlesize": 9,
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#bbb",
        "axes.grid": True,
        "grid.color": "#eee",
        "xtick.color": "#555",
        "ytick.color": "#555",
        "legend.fontsize": 7,
        "legend.labelcolor": "#333",
        "legend.columnspacing": 1.0,
        "legend.handlelength": 1.2,
        "legend.labelspacing": 0.25,
        "axes.prop_cycle": cycler(color=["#2f6fde", "#e07b39", "#2f9e6e", "#c2479b", "#8a6fdf", "#b0892c"]),
    }
    rows = ("overview", "ingest", "engine", "stores")
    with mpl.rc_context(style):
        figure, grid = plt.subplots(4, 4, figsize=(17, 13.5))
        figure.set_layout_engine("constrained", h_pad=0.12, w_pad=0.1)
        for place, (axes, (board, title, most)) in enumerate(zip(grid.flat, CHOSEN, strict=True)):
            shown = panel(board, title)
            draw_one(axes, shown, curves(watched, shown, story, most), story)
            if place % 4 == 0:
                axes.set_ylabel(rows[place // 4], fontsize=11, fontweight="bold", labelpad=10, color="#333")
        told = ", ".join(f"{words} at {moment // 60:.0f}:{moment % 60:02.0f}" for moment, words in story.events)
        figure.suptitle(f"{about}\nDashed: {told}", x=0.01, ha="left", fontsize=11)
        figure.savefig(IMAGE, dpi=110)


async def main() -> None:
    """Run the story and draw it."""
    parser = argparse.ArgumentParser(description="Draws docs/dashboards.png from a mesh at work.")
    parser.add_argument("--mock", action="store_true", help="made-up models: needs no torch")
    mock = parser.parse_args().mock
    if find("prometheus") is None:
        sys.exit("Prometheus is not on this machine: install it first")
    mpl.use("agg")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples = draw_scenes(SCENES, folder / "scenes")
        model = "mock" if mock else "shapes"
        options = MeshOptions(folder / "mesh", port=0, model=model, caption_model=model)
        async with Supervisor(options, print) as mesh:
            targets = {service: str(mesh.processes[service].ready["metrics"]) for service in SERVICES}
            with prometheus(folder / "prometheus", targets) as watched:
                story = await happen(mesh, samples)
                about = (
                    f"lensmesh's dashboards over four minutes of a mesh on one machine ({model} models): searches all "
                    f"along, an ingest of {SCENES:,} images, a killed Captioner"
                )
                await asyncio.to_thread(draw, watched, story, about)


if __name__ == "__main__":
    asyncio.run(main())
