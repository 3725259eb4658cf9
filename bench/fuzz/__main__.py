"""Thousands of damaged images, and some hostile ones, sent through EncodeStream and IngestStream of a real mesh.

python -m bench.fuzz [--mutants 3000] [--folder PATH] [--model shapes]

The exit code is 1 in these cases: an item did not have exactly one answer, or its answer is neither a result nor a
fault of the image itself; a process ended, or took more memory than its Kubernetes manifest allows; a bystander's p99
was more than twice what it is beside as many ordinary images.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.fuzz.callers import Answers, Bystander, Named, encode, ingest
from bench.fuzz.hostile import hostile
from bench.fuzz.mutants import mutants
from bench.fuzz.seeds import seeds
from lensmesh_local.supervisor import MeshOptions, Supervisor

ROOT = Path(__file__).parents[2]
SERVICES = ("router", "encoder", "caption", "search")
STREAMS = {"EncodeStream": encode, "IngestStream": ingest}
# A pause of the machine's own is not held against anybody.
LEAST_P99_S = 0.5


@dataclass
class Verdict:
    """The findings of one run."""

    answers: dict[str, Answers] = field(default_factory=dict)
    beside_ordinary: list[float] = field(default_factory=list)
    """Seconds of the bystander's calls."""
    beside_mutants: list[float] = field(default_factory=list)
    memory_mib: dict[str, float] = field(default_factory=dict)
    """The most that each process held."""
    faults: list[str] = field(default_factory=list)


def memory_limits() -> dict[str, float]:
    """Read each service's limit, in MiB, from the Kubernetes manifests."""
    found = {}
    for name in SERVICES:
        for document in yaml.safe_load_all((ROOT / f"deploy/kubernetes/base/{name}.yaml").read_text()):
            if document and document["kind"] == "Deployment":
                limit = document["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
                found[name] = float(limit[:-2]) * {"Mi": 1, "Gi": 1024}[limit[-2:]]
    return found


async def fuzz(items: Sequence[Named], model: str, folder: Path, console: Console) -> Verdict:
    """Run everything on a mesh that is started for it."""
    verdict = Verdict()
    options = MeshOptions(data=folder, port=0, model=model, caption_model=model, http=False)
    with console.status("a mesh starts"):
        mesh = Supervisor(options, lambda line: console.print(line, markup=False, highlight=False))
        await mesh.__aenter__()
    watching = asyncio.create_task(_watch(mesh, verdict))
    bystander = Bystander(mesh.router)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console) as shown:

            async def send(what: str, stream: str, sent: Sequence[Named]) -> Answers:
                bar = shown.add_task(what, total=len(sent))
                run: Callable[[str, Sequence[Named], Callable[[int], None]], Awaitable[Answers]] = STREAMS[stream]
                return await run(mesh.router, sent, lambda count: shown.advance(bar, count))

            for stream in STREAMS:
                ordinary = _ordinary(max(64, len(items) // 4), stream)
                async with bystander.asking() as took:
                    answers = await send(f"{stream}, ordinary images", stream, ordinary)
                verdict.beside_ordinary += took
                verdict.faults += [f"{stream}, an ordinary image: {wrong}" for wrong in answers.wrong]
                async with bystander.asking() as took:
                    answers = await send(f"{stream}, damaged and hostile ones", stream, items)
                verdict.beside_mutants += took
                verdict.answers[stream] = answers
                verdict.faults += [f"{stream}: {wrong}" for wrong in answers.wrong]
        for name, process in mesh.processes.items():
            if process.restarts:
                verdict.faults.append(f"{name} ended {process.restarts} times: its log is {process.spec.log_file}")
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await mesh.stop()
    verdict.faults += [f"a bystander's call failed: {reason}, {count}x" for reason, count in bystander.errors.items()]
    for name, limit in memory_limits().items():
        if verdict.memory_mib.get(name, 0) > limit:
            verdict.faults.append(f"{name} held {verdict.memory_mib[name]:.0f} MiB, its manifest allows {limit:.0f}")
    alone, beside = p99(verdict.beside_ordinary), p99(verdict.beside_mutants)
    if beside > 2 * max(alone, LEAST_P99_S):
        verdict.faults.append(f"a bystander's p99 was {beside:.2f} s, beside ordinary images {alone:.2f} s")
    return verdict


def p99(seconds: Sequence[float]) -> float:
    """Return the time that 99 of 100 calls do not exceed."""
    return float(np.quantile(seconds, 0.99)) if seconds else 0.0


def told(verdict: Verdict) -> Iterator[str]:
    """Describe in some lines what was measured."""
    for stream, answers in verdict.answers.items():
        yield f"{stream}: " + ", ".join(f"{count} {what}" for what, count in answers.outcomes.most_common())
    beside, alone = verdict.beside_mutants, verdict.beside_ordinary
    yield (
        f"a bystander's p99: {p99(beside):.2f} s in {len(beside)} calls; beside ordinary images {p99(alone):.2f} s in "
        f"{len(alone)}"
    )
    limits = memory_limits()
    most = (f"{name} {held:.0f} of {limits[name]:.0f}" for name, held in verdict.memory_mib.items())
    yield f"most memory, MiB: {', '.join(most)}"


def _ordinary(count: int, stream: str) -> list[Named]:
    """Yield seeds, each with other bytes after its end, so that each is another content."""
    whole = [(name, content) for name, content in seeds().items() if name.startswith(("jpeg", "png", "webp"))]
    return [
        (f"{name} {number}", content + f" {stream} {number}".encode())
        for number in range(count)
        for name, content in [whole[number % len(whole)]]
    ]


async def _watch(mesh: Supervisor, verdict: Verdict) -> None:
    """Watch the memory of each service, including the processes that it started."""
    while True:
        for name in SERVICES:
            pid = mesh.processes[name].pid
            if pid is None:
                continue
            try:
                process = psutil.Process(pid)
                held = sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 2**20
            except psutil.Error:
                continue
            verdict.memory_mib[name] = max(verdict.memory_mib.get(name, 0.0), held)
        await asyncio.sleep(0.25)


def _of_folder(folder: Path | None) -> list[Named]:
    if folder is None:
        return []
    files = sorted(path for path in folder.rglob("*") if path.is_file() and 0 < path.stat().st_size < 20 * 2**20)
    return [(str(path), path.read_bytes()) for path in files]


def main() -> None:
    """Run, print, and say by the exit code whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=10, help="another number makes other mutants")
    parser.add_argument("--folder", type=Path, help="a folder of your own files that are sent too")
    parser.add_argument("--model", default="shapes", help="model of Encoder and Captioner")
    chosen = parser.parse_args()
    console = Console()
    items = [*mutants(seeds(), chosen.mutants, chosen.seed), *hostile().items(), *_of_folder(chosen.folder)]
    with tempfile.TemporaryDirectory(prefix="lensmesh-fuzz-") as folder:
        verdict = asyncio.run(fuzz(items, chosen.model, Path(folder), console))
    for line in told(verdict):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for fault in verdict.faults[:50]:
        console.print(fault, style="red", markup=False, highlight=False)
    sys.exit(1 if verdict.faults else 0)


if __name__ == "__main__":
    main()
