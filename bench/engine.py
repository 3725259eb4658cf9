"""The serving engine compared with the model itself, open_clip and other servers, by one command, all cases in turn.

python -m bench.engine                       all of it; --cases chooses
python -m bench.engine --cases images texts  these groups only
python -m bench.engine --smoke               everything tiny, in about a minute: does it still run?

It prints tables in Markdown and the figures to reach; --json FILE and --pictures FILE keep them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench import figures, files, report
from bench.cases import captions, flood, images, int8, peers, texts, waiting
from bench.machine import Machine, this_machine
from bench.measure import Case, Results, in_turn
from bench.report import say
from bench.stage import Options, Stage
from lensmesh_inference.backends import openvino_import

SMOKE = Options(model="mock", reference="shapes", rounds=1, seconds=0.4, warm=0.2, batch=8, peers=False, smoke=True)
SMOKE_SIZES = {(320, 240): 3, (640, 480): 1}
# Of what the service answers at most: where the open loop offers work.
SHARES = (0.25, 0.5, 0.75, 0.9)


@dataclass
class Run:
    """A run: its stage, its machine, and its results."""

    stage: Stage
    machine: Machine
    results: dict[str, Results]

    async def group(self, name: str, cases: list[Case], *, rounds: int | None = None) -> Results:
        """Measure cases in turn."""
        options = self.stage.options
        return await in_turn(
            cases,
            rounds=rounds or options.rounds,
            seconds=options.seconds,
            warm=options.warm,
            say=say,
            into=self.results.setdefault(name, Results()),
        )


async def run_images(run: Run) -> None:
    """Measure throughput."""
    cases = await images.throughput(run.stage)
    if run.stage.options.peers:
        missing = run.results.setdefault("images", Results()).missing
        cases += await peers.peers(run.stage, missing, say)
    await run.group("images", cases)


async def run_load(run: Run) -> None:
    """Measure latency in closed and open loops."""
    closed = await run.group("load", await images.latency(run.stage, []))
    most = max(rate.median for key in closed.rounds if (rate := closed.rates(key)))
    rates = [share * most for share in SHARES]
    opened = [case for case in await images.latency(run.stage, rates) if case.key.startswith("open")]
    await run.group("load", opened)


async def run_texts(run: Run) -> None:
    """Measure short texts."""
    precision = "bfloat16" if run.machine.has_bf16 else "float32"
    backends = ["torch", "openvino"] if openvino_import.installed() else ["torch"]
    if run.stage.options.smoke:
        # A mock has neither, and the worker of open_clip that computes images in float32 is there already.
        precision, backends = "float32", ["torch"]
    await run.group("texts", await texts.texts(run.stage, backends, precision))


async def run_waiting(run: Run) -> None:
    """Measure a text beside a bulk stream."""
    await waiting.waiting(run.stage, run.results.setdefault("waiting", Results()), say)


async def run_flood(run: Run) -> None:
    """Measure under ten times what the device can compute."""
    await flood.flood(run.stage, run.results.setdefault("flood", Results()), say)


async def run_int8(run: Run) -> None:
    """Measure int8 beside float32 open_clip."""
    learnt = await int8.calibration(run.stage)
    cases = [await int8.stream(run.stage, learnt), *await images.open_clip(run.stage, "open_clip-int8")]
    await int8.nearness(run.stage, learnt, (await run.group("int8", cases)), say)


async def run_captions(run: Run) -> None:
    """Measure captions of BLIP-base."""
    await run.group("captions", await captions.captions(run.stage))


GROUPS: dict[str, Callable[[Run], Awaitable[None]]] = {
    "images": run_images,
    "load": run_load,
    "texts": run_texts,
    "int8": run_int8,
    "captions": run_captions,
    "waiting": run_waiting,
    "flood": run_flood,
}


# Short enough for a test; int8 takes a calibration, and mocks have no backends.
SMOKED = ("images", "load", "texts", "captions", "waiting", "flood")


def arguments() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=tuple(GROUPS), help="groups to measure; default: all")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="seconds measured, for each case in each round")
    parser.add_argument("--warm", type=float, help="seconds of warm-up before them")
    parser.add_argument("--model", help="a model, as in LENSMESH_ENCODER_MODEL")
    parser.add_argument("--files", type=int, default=64, help="JPEG files to make")
    parser.add_argument("--sizes", nargs="+", help="such as 640x480, equally often; default: a mix of four sizes")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="more settings of the Encoder: BACKEND=torch"
    )
    parser.add_argument("--no-peers", action="store_true", help="without Triton and LitServe")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument(
        "--pictures", dest="charts", type=Path, metavar="FILE", help="FILE.png: throughput bars, latency by load"
    )
    parser.add_argument("--readme", action="store_true", help="end with the table of the README")
    parser.add_argument("--smoke", action="store_true", help="everything tiny: the figures mean nothing")
    return parser


def options_of(chosen: argparse.Namespace) -> Options:
    """Return the default options, changed as the command line says."""
    options = SMOKE if chosen.smoke else Options()
    given = {name: getattr(chosen, name) for name in ("rounds", "seconds", "warm", "model") if getattr(chosen, name)}
    settings = dict(pair.split("=", 1) for pair in chosen.set)
    return replace(options, **given, settings=settings, peers=options.peers and not chosen.no_peers)


async def measure(chosen: argparse.Namespace, folder: Path) -> None:
    """Run and report."""
    options, machine = options_of(chosen), this_machine()
    sizes = SMOKE_SIZES if chosen.smoke else files.SIZES
    if chosen.sizes:
        sizes = {(int(width), int(height)): 1 for width, _, height in (size.partition("x") for size in chosen.sizes)}
    made = files.make_files(folder / "files", 8 if chosen.smoke else chosen.files, sizes)
    say(files.say(made))
    async with Stage(folder, folder / "files", options) as stage:
        run = Run(stage, machine, {})
        # First of all, and alone: what it finds out about the fastest backend, the services read from its cache.
        facts = await (await stage.limit()).ask("facts")
        served = await (await stage.caller(await stage.encoder())).ask("facts")
        if served != facts:
            raise SystemExit(f"the Encoder serves {served}, the limit computes {facts}: these cannot be compared")
        for name in chosen.cases or (SMOKED if chosen.smoke else GROUPS):
            try:
                await GROUPS[name](run)
            except Exception as error:  # noqa: BLE001 - told; the other groups run
                run.results.setdefault(name, Results()).missing[name] = str(error) or type(error).__name__
                say(f"{name} is left out: {error!r}")
    tell(run, options, files.say(made), facts, chosen)


def tell(run: Run, options: Options, made: str, facts: dict[str, str], chosen: argparse.Namespace) -> None:
    """Print tables on standard output, and write the files that were asked for."""
    model = f"{facts['model']}, {facts['backend']}, {facts['precision']}"
    parts = [report.head(run.machine, options, made, model)]
    for name, results in run.results.items():
        base = {"images": "limit", "texts": "open_clip-text-1"}.get(name, next(iter(results.rounds), ""))
        parts += [f"### {name}", report.rates(results, base), report.split(results)]
        parts += [f"{key}: {why.splitlines()[0]}" for key, why in results.missing.items()]
    parts += ["### Figures", figures.table(figures.check(report.join(run.results), has_bf16=run.machine.has_bf16))]
    if chosen.charts:
        report.draw_charts(chosen.charts, run.machine, run.results)
    if chosen.readme:
        parts.append(report.readme(run.machine, run.results["images"]))
    sys.stdout.write("\n\n".join(part for part in parts if part) + "\n")
    if chosen.json:
        report.write_json(chosen.json, report.as_json(run.machine, options, made, facts, run.results))


def main() -> None:
    """Read the command line and measure."""
    chosen = arguments().parse_args()
    with tempfile.TemporaryDirectory(prefix="lensmesh-bench-") as folder:
        asyncio.run(measure(chosen, Path(folder)))


if __name__ == "__main__":
    main()
