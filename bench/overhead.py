"""Costs of a call, an image and an item, beside the bare parts of them, by one command.

python -m bench.overhead                       all of it; --cases chooses
python -m bench.overhead --cases images calls  these groups only
python -m bench.overhead --against CHECKOUT    another checkout's services too, in the same rounds
python -m bench.overhead --smoke               everything tiny, in some twenty seconds: does it still run?

Each row has its bare part measured in the same rounds, and ratios are made within a round. It prints tables in
Markdown and the figures to reach; --json FILE keeps all rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from bench import figures, files
from bench.bare.tower import name_of
from bench.machine import Machine, this_machine
from bench.measure import Results, Spread
from bench.report import say, write_json
from bench.rounds import times
from bench.rows import calls, door, images, ingest, search, tracing, writing
from bench.rows.group import Group, Row
from bench.rows.sides import before
from bench.stage import Options, Stage
from lensmesh_inference.backends import openvino_import

GROUPS: dict[str, Group] = {
    "images": images.GROUP,
    "calls": calls.GROUP,
    "search": search.GROUP,
    "ingest": ingest.GROUP,
    "writing": writing.GROUP,
    "tracing": tracing.GROUP,
    "door": door.GROUP,
}
FULL = Options(rounds=5, seconds=5.0, warm=2.0)
SMOKE = Options(rounds=1, seconds=0.3, warm=0.3, peers=False, smoke=True)
SIZE = {(640, 480): 1}


def arguments() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=tuple(GROUPS), help="groups to measure; default: all")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="seconds measured, for each part in each round")
    parser.add_argument("--warm", type=float, help="seconds of warm-up before them")
    parser.add_argument("--files", type=int, default=32, help="JPEG files to make")
    parser.add_argument(
        "--against", type=Path, metavar="CHECKOUT", help="another checkout, measured in the same rounds"
    )
    parser.add_argument("--no-peers", action="store_true", help="without Triton and LitServe")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--readme", action="store_true", help="end with the table of the README: medians")
    parser.add_argument("--smoke", action="store_true", help="everything tiny: the figures mean nothing")
    return parser


async def measure(chosen: argparse.Namespace, folder: Path) -> None:
    """Run and report."""
    machine = this_machine()
    made = files.make_files(folder / "files", 4 if chosen.smoke else chosen.files, SIZE)
    say(files.say(made))
    given = {name: getattr(chosen, name) for name in ("rounds", "seconds", "warm") if getattr(chosen, name)}
    base = SMOKE if chosen.smoke else FULL
    # Not the faster one by what a busy moment says: it has to be the same one in every run. torch converts nothing.
    backend = "openvino" if openvino_import.installed() and not chosen.smoke else "torch"
    options = replace(
        base,
        **given,
        model=name_of(folder / "tower"),
        settings={"BACKEND": backend, "PRECISION": "float32"},
        peers=base.peers and not chosen.no_peers,
        against=str(chosen.against.resolve()) if chosen.against else "",
    )
    names, results = chosen.cases or list(GROUPS), Results()
    # A stage for each group: what idles beside a measurement is part of it. One for all where nothing is measured.
    for together in [names] if chosen.smoke else [[name] for name in names]:
        place = folder / together[0]
        place.mkdir()
        async with Stage(place, folder / "files", options) as stage:
            for name in together:
                try:
                    await GROUPS[name].measure(stage, results, say)
                except Exception as error:  # noqa: BLE001 - told; the other groups run
                    results.missing[name] = str(error) or type(error).__name__
                    say(f"{name} is left out: {error!r}")
    tell(machine, options, files.say(made), names, results, chosen)


def head(machine: Machine, options: Options, made: str) -> str:
    """Describe what was measured, and on which machine."""
    load = ", ".join(f"{one:.1f}" for one in machine.load_average)
    return (
        f"{made}; {options.rounds} rounds of {options.seconds:g} s for each part after {options.warm:g} s of warm-up, "
        f"in turn. {machine.title}, load average before: {load}. Python {machine.python}, "
        f"{', '.join(f'{name} {number}' for name, number in machine.packages.items())}."
    )


def table(rows: Sequence[Row], results: Results) -> str:
    """Return the rows that were measured as a Markdown table."""
    lines = [
        "| what | bare parts | bare: min / median / max | lensmesh: min / median / max | ratio: min / median / max |",
        "|---|---|---|---|---|",
    ]
    for row, key, which in _measured(rows, results):
        ours, bare = spread(results, key, row), spread(results, row.bare, row)
        ratio = times(key, row.bare)(results)
        said = "" if ratio is None else format(ratio, ".2f")
        lines.append(f"| {row.what}{which} | {row.parts} | {bare} | {ours} | {said} |")
    return "\n".join(lines)


def spread(results: Results, key: str, row: Row) -> str:
    """Format one figure's rounds; "" where it was not measured."""
    values = results.extra.get(key)
    return f"{Spread.of(values):.{row.digits}f} {row.unit}".rstrip() if values else ""


def readme(rows: Sequence[Row], results: Results) -> str:
    """Return the medians of the rows that were measured."""
    lines = ["| what | bare parts | lensmesh | ratio |", "|---|---|---|---|"]
    for row, key, which in _measured(rows, results):
        ours, bare = (_median(results, one, row) for one in (key, row.bare))
        ratio = times(key, row.bare)(results)
        said = "" if ratio is None else f"{ratio.median:.2f}"
        lines.append(f"| {row.what}{which} | {row.parts}{bare and f': {bare}'} | {ours} | {said} |")
    return "\n".join(lines)


def _measured(rows: Sequence[Row], results: Results) -> Iterator[tuple[Row, str, str]]:
    """Yield the rows of which all was measured, with the name of the figure, and which checkout's it is."""
    for row in rows:
        for key, which in ((row.ours, ""), (before(row.ours), " (the other checkout)")):
            if results.extra.get(key) and (not row.bare or results.extra.get(row.bare)):
                yield row, key, which


def _median(results: Results, key: str, row: Row) -> str:
    values = results.extra.get(key)
    return f"{Spread.of(values).median:.{row.digits}f} {row.unit}".rstrip() if values else ""


def tell(
    machine: Machine, options: Options, made: str, names: Sequence[str], results: Results, chosen: argparse.Namespace
) -> None:
    """Print tables on standard output, and write the file that was asked for."""
    rows = [row for name in names for row in GROUPS[name].rows]
    targets = [target for name in names for target in GROUPS[name].targets]
    reached = figures.check(results, targets=targets)
    parts = [head(machine, options, made), "### Rows", table(rows, results)]
    parts += [
        f"{key}: {' '.join(dict.fromkeys(why.splitlines()[i] for i in (0, -1)))}"
        for key, why in results.missing.items()
    ]
    parts += ["### Figures", figures.table(reached)]
    if chosen.readme:
        parts.append(readme(rows, results))
    sys.stdout.write("\n\n".join(parts) + "\n")
    if chosen.json:
        document: dict[str, object] = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": asdict(machine),
            "options": asdict(options),
            "files": made,
            "values": results.extra,
            "missing": results.missing,
            "rows": [asdict(row) for row in rows],
            "figures": [asdict(row) for row in reached],
        }
        write_json(chosen.json, document)


def main() -> None:
    """Read the command line and measure."""
    chosen = arguments().parse_args()
    with tempfile.TemporaryDirectory(prefix="lensmesh-bench-") as folder:
        asyncio.run(measure(chosen, Path(folder)))


if __name__ == "__main__":
    main()
