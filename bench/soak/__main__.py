"""A mesh of real processes under callers of every kind, for minutes. The run fails where a process grows after warm-up.

python -m bench.soak [--seconds 600] [--model shapes] [--every 3] [--out build/soak]
python -m bench.soak --overload [--seconds 60]

Memory, threads, tasks of asyncio and descriptors of each service are sampled, and compared after the first minute: the
median of memory and threads in the first and the last fifth, the least of tasks and descriptors in both halves. The
command writes soak.json and soak.png. Its exit code is 1 where something grew, or a call had an outcome that it must
not have.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bench.machine import this_machine
from bench.soak import report
from bench.soak.callers import Callers
from bench.soak.overload import DONE, SENT, Flood
from bench.soak.samples import SERVICES, Sampler
from bench.soak.verdict import TOLERANCES, Tolerance, judge
from lensmesh_local.supervisor import MeshOptions, Supervisor

# Full within the warm-up, so that a cache that fills as it should is not taken for a leak. What floods meets none.
CACHE_BYTES = 4 * 2**20


class Load(Protocol):
    """The callers of a run."""

    async def work(self) -> None: ...

    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a run: what runs, for how long, and how often it is sampled."""

    seconds: float
    model: str
    every_s: float
    overload: bool
    memory_mib: float
    """The MiB that memory may grow by, on top of a share of it."""


async def soak(plan: Plan, folder: Path, console: Console) -> dict[str, Any]:
    """Run the mesh and its load. Return everything that was found."""
    services = ("encoder",) if plan.overload else SERVICES
    cache_bytes = str(0 if plan.overload else CACHE_BYTES)
    settings = {f"LENSMESH_{name}_CACHE_BYTES": cache_bytes for name in ("ENCODER", "CAPTION")}
    machine = this_machine()
    options = MeshOptions(
        data=folder / "data", port=0, model=plan.model, caption_model=plan.model, environment=settings
    )
    with console.status("a mesh starts"):
        mesh = Supervisor(options, lambda line: console.print(line, markup=False, highlight=False))
        await mesh.__aenter__()
    try:
        callers = Callers(mesh.router)
        flood = Flood(mesh.address("encoder"))
        load: Load = flood if plan.overload else callers
        sampler = Sampler(mesh.processes, services)
        await _sample(plan, sampler, load, console)
    finally:
        await mesh.stop()
    tolerances = TOLERANCES | {"memory_mib": Tolerance(TOLERANCES["memory_mib"].share, plan.memory_mib)}
    if plan.overload:
        tolerances |= {"queue_mib": Tolerance(0.05, 1)}
    rows = judge(sampler.samples, plan.seconds, tolerances)
    head: dict[str, Any] = {
        "machine": asdict(machine),
        "plan": asdict(plan),
        "seen": dict(sorted((flood if plan.overload else callers).seen.items())),
        "surprises": callers.surprises,
        "device_rate": round(flood.rate, 1),
    }
    report.draw(folder / "soak.png", sampler.samples, plan.seconds, list(tolerances))
    found = report.as_json(head, sampler.samples, rows)
    (folder / "soak.json").write_text(json.dumps(found, indent=1) + "\n")
    console.print(
        f"{machine.title}; {plan.seconds:g} s of {'overload' if plan.overload else 'mixed calls'}", markup=False
    )
    console.print(report.table(rows), markup=False, highlight=False, soft_wrap=True)
    if plan.overload:
        sent, done = (sum(flood.seen[what] for what in kinds) for kinds in (SENT, DONE))
        console.print(f"alone it does {flood.rate:.0f} images/s; {sent / plan.seconds:.0f} were sent in calls and")
        console.print(f"two streams besides, as fast as they were read; {done / plan.seconds:.0f} done a second")
    for what, count in head["seen"].items():
        console.print(f"{count:8d} {what}", markup=False, highlight=False)
    return found


async def _sample(plan: Plan, sampler: Sampler, load: Load, console: Console) -> None:
    """Take samples again and again while `load` works."""
    working = asyncio.create_task(load.work())
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[now]}"))
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("soak", total=plan.seconds, now="")
        while sampler.seconds < plan.seconds:
            if working.done():
                working.result()
            await sampler.look()
            now = ", ".join(f"{name} {found[-1].memory_mib:.0f} MiB" for name, found in sampler.samples.items())
            progress.update(bar, completed=sampler.seconds, now=now)
            await asyncio.sleep(plan.every_s)
        progress.update(bar, completed=plan.seconds)
    load.stop()
    await working


def main() -> None:
    """Run, print, and return an exit code that says whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seconds", type=float, default=0, help="length of the run; default: 600, or 60 with --overload"
    )
    parser.add_argument("--model", default="shapes", help="model of Encoder and Captioner")
    parser.add_argument(
        "--every", type=float, default=0, help="seconds between two samples; default: 3, or 1 with --overload"
    )
    parser.add_argument("--overload", action="store_true", help="one client that sends 10 times what the device does")
    parser.add_argument(
        "--memory-mib", type=float, default=TOLERANCES["memory_mib"].more, help="allowed growth of memory"
    )
    parser.add_argument("--out", type=Path, default=None, help="a folder; default: a temporary one")
    chosen = parser.parse_args()
    plan = Plan(
        seconds=chosen.seconds or (60 if chosen.overload else 600),
        model=chosen.model,
        every_s=chosen.every or (1 if chosen.overload else 3),
        overload=chosen.overload,
        memory_mib=chosen.memory_mib,
    )
    folder: Path = chosen.out or Path(tempfile.mkdtemp(prefix="lensmesh-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    found = asyncio.run(soak(plan, folder, console))
    console.print(f"{folder / 'soak.json'} and soak.png beside it", markup=False, highlight=False)
    for surprise in found["surprises"]:
        console.print(f"must not have happened: {surprise}", style="red", markup=False)
    grown = [row for row in found["rows"] if not row["fine"]]
    for row in grown:
        console.print(f"{row['service']} grew: {row['quantity']} {row['begin']:.1f} -> {row['end']:.1f}", style="red")
    sys.exit(1 if grown or found["surprises"] else 0)


if __name__ == "__main__":
    main()
