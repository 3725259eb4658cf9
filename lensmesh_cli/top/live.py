"""An endless sequence of frames of figures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from lensmesh_cli.top.figures import MeshFigures, figures
from lensmesh_cli.top.looks import endpoints_of, look


class NothingAnswers(Exception):  # noqa: N818 - reads as what it says
    """No endpoint answers at the first look. The message says what was tried and what to do."""


def source(metrics: list[str], data: Path) -> Callable[[], list[str]]:
    """Return a function that lists the endpoints: those named, or those of the ready files in a data folder now."""
    if metrics:
        return lambda: metrics
    return lambda: endpoints_of(data)


async def frames(where: Callable[[], list[str]], data: Path, interval_s: float) -> AsyncGenerator[MeshFigures, None]:
    """Yield a frame every `interval_s` seconds, without end.

    Raises NothingAnswers if no endpoint answers at the start. Later such a mesh is shown as it is.
    """
    before = await look(where())
    if not before:
        raise NothingAnswers(
            f"no mesh shows metrics in {data}: start one with `lensmesh up`, name its folder with --data, or the "
            "endpoints of any mesh with --metrics HOST:PORT"
        )
    if all(one.failure for one in before):
        tried = "; ".join(f"{one.address}: {one.failure}" for one in before)
        raise NothingAnswers(
            f"no metrics endpoint answers ({tried}): is the mesh running, and are these the addresses of "
            "LENSMESH_..._METRICS_LISTEN?"
        )
    while True:
        await asyncio.sleep(interval_s)
        after = await look(where())
        yield figures(before, after)
        before = after
