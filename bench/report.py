"""The report of one run: tables for people, JSON for programs, six lines for the README."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bench import figures
from bench.machine import Machine
from bench.measure import Results
from bench.stage import Options
from lensmesh_cli.load.drawing import draw

# What the README shows: the base first.
README = ("limit", "stream", "router-stream", "unary", "open_clip")


def say(line: str) -> None:
    """Print progress on standard error."""
    sys.stderr.write(line + "\n")


def head(machine: Machine, options: Options, files: str, model: str) -> str:
    """Describe what was measured, and on which machine."""
    packages = ", ".join(f"{name} {number}" for name, number in machine.packages.items())
    load = ", ".join(f"{one:.1f}" for one in machine.load_average)
    return (
        f"{model}; {files}; {options.rounds} rounds of {options.seconds:g} s after {options.warm:g} s of warm-up, "
        f"in turn. {machine.title}, load average before: {load}. Python {machine.python}, {packages}."
    )


def rates(results: Results, base: str = "limit") -> str:
    """Return a Markdown table of the items a second of each case, and of their ratio to the base's."""
    lines = ["| case | items/s: min / median / max | of the first | p50 ms | p99 ms |", "|---|---|---|---|---|"]
    keys = sorted(results.rounds, key=lambda key: (key != base, list(results.titles).index(key)))
    for key in keys:
        ratio = results.ratio(key, base)
        middle, slow = results.latency(key, "p50"), results.latency(key, "p99")
        lines.append(
            f"| {results.titles[key]} | {results.rates(key):.2f} | {'' if ratio is None else format(ratio, '.2f')} "
            f"| {'' if middle is None else f'{middle.median:.0f}'} | {'' if slow is None else f'{slow.median:.0f}'} |"
        )
    return "\n".join(lines)


def split(results: Results) -> str:
    """Return a Markdown table of where an item's time goes in the service. Figures are medians of the rounds."""
    import statistics

    lines = [
        "| case | batch | decode ms | queue ms | forward ms | errors | from a cache |",
        "|---|---|---|---|---|---|---|",
    ]
    for key, rounds in results.rounds.items():
        found = [one.split_ms for one in rounds if one.split_ms is not None]
        if not found:
            continue
        batch, decode, queue, forward = (
            statistics.median(getattr(one, name) for one in found) for name in ("batch", "decode", "queue", "forward")
        )
        errors, cached = sum(sum(one.errors.values()) for one in rounds), sum(one.cached for one in rounds)
        numbers = f"{batch:.1f} | {decode:.1f} | {queue:.0f} | {forward:.0f} | {errors} | {cached}"
        lines.append(f"| {results.titles[key]} | {numbers} |")
    return "\n".join(lines)


def readme(machine: Machine, results: Results) -> str:
    """Return the throughput table of the README: a head and six lines at most."""
    chosen = [key for key in (*README, "triton", "litserve") if key in results.rounds]
    best_peer = max(
        (key for key in ("triton", "litserve") if key in chosen),
        key=lambda key: results.rounds[key][0].rate,
        default="",
    )
    chosen = [key for key in chosen if key not in ("triton", "litserve") or key == best_peer]
    lines = [f"| images a second on {machine.title} | | of the limit |", "|---|---|---|"]
    for key in chosen:
        rate, ratio = results.rates(key), results.ratio(key, "limit")
        assert rate is not None
        lines.append(
            f"| {results.titles[key]} | {rate.median:.1f} | {'' if ratio is None else f'{ratio.median:.2f}'} |"
        )
    return "\n".join(lines)


def as_json(
    machine: Machine, options: Options, files: str, facts: dict[str, str], results: dict[str, Results]
) -> dict[str, object]:
    """Return all figures of all rounds."""
    joined = join(results)
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(machine),
        "options": asdict(options),
        "files": files,
        "model": facts,
        "groups": {name: asdict(one) for name, one in results.items()},
        "figures": [asdict(row) for row in figures.check(joined, has_bf16=machine.has_bf16)],
    }


def join(results: dict[str, Results]) -> Results:
    """Join all groups into one. Their keys differ."""
    joined = Results()
    for one in results.values():
        joined.titles |= one.titles
        joined.rounds |= one.rounds
        joined.missing |= one.missing
        joined.extra |= one.extra
    return joined


def draw_charts(path: Path, machine: Machine, results: dict[str, Results]) -> None:
    """Draw throughput of the cases, and latency by offered load. Needs matplotlib."""
    throughput, load = results.get("images", Results()), results.get("load", Results())
    bars = [
        (throughput.titles[key], rate.median, rate.min, rate.max)
        for key in throughput.titles
        if (rate := throughput.rates(key)) is not None
    ]
    opened = [one for key, rounds in load.rounds.items() if key.startswith("open") for one in rounds]
    draw(path, f"images a second on {machine.title}", bars, opened)


def write_json(path: Path, document: dict[str, object]) -> None:
    """Write the file in one step."""
    draft = path.with_name(path.name + ".draft")
    draft.write_text(json.dumps(document, indent=1) + "\n")
    draft.replace(path)
