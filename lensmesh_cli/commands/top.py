"""`lensmesh top`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lensmesh_cli.console import EXIT_CODES, Exit, fail, out, print_json
from lensmesh_cli.options import Json, check_seconds

if TYPE_CHECKING:
    from lensmesh_cli.top.figures import MeshFigures

EPILOG = (
    "Example: lensmesh top --metrics encoder-0:9464 --metrics router:9464\n\n"
    "On a terminal q ends it; j, k, arrows, space, b, page keys, g, G, Home and End scroll.\n\n"
    "Without --metrics the endpoints are those of the mesh that `lensmesh up` runs in the data folder.\n\n" + EXIT_CODES
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(top)


def top(
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metrics", help="host:port of a service's Prometheus endpoint; repeatable."),
    ] = None,
    data: Annotated[
        Path, typer.Option(help="Data folder of a mesh on this machine.", envvar="LENSMESH_DATA", file_okay=False)
    ] = Path("lensmesh-data"),
    interval: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1, callback=check_seconds)] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print one frame and end; always so where the output is no terminal.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Watch live figures of every service: rates, errors, latencies, queues, batches, ingest, store, memory."""
    from lensmesh_cli.top.live import NothingAnswers, frames, source

    where = frames(source(metrics or [], data), data, interval)
    try:
        if json_output:
            print_json(asdict(asyncio.run(_first(where))))
        elif once or not out.is_terminal:
            _print(asyncio.run(_first(where)), interval)
        else:
            from lensmesh_cli.top.screen import show

            # It goes on until it is stopped: by Ctrl-C as well as by q.
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(show(where, interval, out))
    except NothingAnswers as error:
        fail(str(error), Exit.UNREACHABLE)


async def _first(figures: AsyncGenerator[MeshFigures, None]) -> MeshFigures:
    async with aclosing(figures):
        return await anext(figures)


def _print(figures: MeshFigures, interval: float) -> None:
    from lensmesh_cli.top.view import frame

    out.print(frame(figures, interval))
