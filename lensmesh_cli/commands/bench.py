"""`lensmesh bench`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lensmesh_cli.console import EXIT_CODES, Exit, err, fail, note, out, print_json
from lensmesh_cli.load.mode import Mode
from lensmesh_cli.options import (
    DEFAULT_TARGET,
    CaFile,
    CertificateFile,
    Connect,
    KeyFile,
    Target,
    Timeout,
    check_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lensmesh.encoder.v1 import encoder_pb2
    from lensmesh_cli.load.plan import LoadStep, Row
    from lensmesh_client.connection import Connection

EPILOG = (
    "Examples:\n\n"
    "lensmesh bench photos/ --seconds 10 --picture bench.png\n\n"
    "lensmesh bench --texts --modes unary --concurrency 1 --target 127.0.0.1:50051\n\n"
    "Every image and text is sent with other bytes than the one before, so that no cache answers; what one answered "
    "all the same is counted. The load comes from this machine: on the service's own it takes part of its cores.\n\n"
    + EXIT_CODES
    + " 1 here: some items failed."
)
# Of the best rate found: where the open loop offers work.
SHARES = (0.25, 0.5, 0.75, 0.9)
SUFFIXES = (".png", ".svg", ".pdf")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(bench)


def bench(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Images, and folders with images; without any, images are made.", metavar="PATH"),
    ] = None,
    texts: Annotated[bool, typer.Option("--texts", help="Encode short texts, not images.")] = False,
    modes: Annotated[str, typer.Option(help="Comma-separated: unary, batch, stream.")] = "unary,batch,stream",
    concurrency: Annotated[
        str, typer.Option(help="Callers at a time, comma-separated; in a stream: items in flight.")
    ] = "1,8,64",
    batch: Annotated[int, typer.Option(help="Items of one call in mode batch.", min=1)] = 32,
    rates: Annotated[
        str,
        typer.Option(
            help="Items a second of the open loop, comma-separated; none: no open loop. auto: shares of the best."
        ),
    ] = "auto",
    seconds: Annotated[float, typer.Option(help="Seconds of each measurement.", min=0.1, callback=check_seconds)] = 5.0,
    warm: Annotated[
        float, typer.Option(help="Seconds of warm-up before each measurement.", min=0, callback=check_seconds)
    ] = 1.0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything here; -: standard output, and no table.")
    ] = None,
    chart: Annotated[
        Path | None,
        typer.Option("--picture", help="Draw throughput and latency here: FILE.png, .svg or .pdf; needs matplotlib."),
    ] = None,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    timeout: Timeout = 120.0,
) -> None:
    """Measure how fast a running mesh, or one encoder, answers: rates, latencies, and where the time goes."""
    from lensmesh.encoder.v1 import encoder_pb2
    from lensmesh_cli.load import supply
    from lensmesh_cli.load.drawing import draw
    from lensmesh_cli.load.plan import closed_steps, open_steps, take
    from lensmesh_cli.load.progress import Progress
    from lensmesh_cli.load.table import as_json, table

    chosen = [_mode(name) for name in modes.split(",")]
    callers = [round(number) for number in _numbers(concurrency, "--concurrency")]
    wants_open = rates != "none"
    offered = _numbers(rates, "--rates") if rates not in ("none", "auto") else []
    _check_chart(chart)
    connect = Connect(target, ca_file, certificate_file, key_file, timeout)
    contents = [] if texts else _contents(paths or [])
    # Of this run: what an earlier one left in a cache is of no use to it.
    salt = time.time_ns() >> 20

    async def work(connection: Connection) -> list[Row]:
        info = await connection.call(connection.encoder.GetInfo, encoder_pb2.GetInfoRequest())
        _check_batch(batch if Mode.BATCH in chosen else 1, info, target)
        note(_says(info))
        items: Iterator[bytes | str] = supply.texts(salt) if texts else supply.images(contents, salt)
        steps = closed_steps(chosen, callers, batch)
        rows: list[Row] = []
        with Progress(err, len(steps) + len(offered or SHARES if wants_open else ()), warm + seconds) as progress:

            async def measure(step: LoadStep) -> None:
                with progress.step(step.name):
                    rows.append(await take(step, connection.encoder, items, seconds=seconds, warm=warm))

            for step in steps:
                await measure(step)
            best = max(row.figures.rate for row in rows)
            for step in open_steps(offered or [share * best for share in SHARES] if wants_open else []):
                await measure(step)
        return rows

    rows = connect.run_connected(work)
    if json_file is not None:
        _write_json(json_file, {"target": target, "seconds": seconds, "rows": as_json(rows)})
    if json_file != Path("-"):
        out.print(table(rows))
    if chart is not None:
        bars = [(row.name, row.figures.rate, row.figures.rate, row.figures.rate) for row in rows if row.concurrency]
        draw(chart, f"lensmesh at {target}", bars, [row.figures for row in rows if not row.concurrency])
    if any(row.figures.errors for row in rows):
        raise typer.Exit(int(Exit.FAILED))


def _mode(name: str) -> Mode:
    try:
        return Mode(name.strip())
    except ValueError:
        fail(f"--modes: {name!r} is none of {', '.join(Mode)}", Exit.USAGE)


def _numbers(listed: str, option: str) -> list[float]:
    try:
        found = [float(part) for part in listed.split(",")]
    except ValueError:
        fail(f"{option} takes numbers with commas between them, not {listed!r}", Exit.USAGE)
    if not all(0 < number < float("inf") for number in found):
        fail(f"{option} takes numbers above 0, not {listed!r}", Exit.USAGE)
    return found


def _contents(paths: list[Path]) -> list[bytes]:
    from lensmesh_cli.disk import explain
    from lensmesh_cli.load import supply
    from lensmesh_cli.printable import printable
    from lensmesh_cli.sources import named_images

    if not paths:
        return supply.made()
    files, problems = named_images(paths)
    for problem in problems:
        note(f"passed over: {printable(str(problem.path))}: {explain(problem.error)}")
    try:
        return supply.read(files)
    except OSError as error:
        fail(f"an image cannot be read: {printable(str(error))}", Exit.USAGE)


def _check_chart(chart: Path | None) -> None:
    from importlib.util import find_spec

    if chart is None:
        return
    if chart.suffix not in SUFFIXES:
        fail(f"{chart} must end in one of {', '.join(SUFFIXES)}", Exit.USAGE)
    if find_spec("matplotlib") is None:
        fail("--picture needs matplotlib: pip install matplotlib", Exit.USAGE)


def _check_batch(batch: int, info: encoder_pb2.GetInfoResponse, target: str) -> None:
    most = info.limits.max_items
    if most and batch > most:
        fail(f"--batch {batch} is more than the {most} items that {target} takes in one call", Exit.USAGE)


def _says(info: encoder_pb2.GetInfoResponse) -> str:
    from lensmesh.common.v1 import common_pb2

    model = info.models[0].model
    devices = ", ".join(device.name or device.id for device in model.devices)
    said = f"{model.name}: {model.backend}, {model.precision}, on {devices}"
    if model.kind == common_pb2.MODEL_KIND_MOCK:
        said += ". It has no model: this measures the way to it alone"
    return said


def _write_json(path: Path, document: dict[str, object]) -> None:
    if path == Path("-"):
        print_json(document)
        return
    try:
        path.write_text(json.dumps(document, indent=1) + "\n")
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}")
