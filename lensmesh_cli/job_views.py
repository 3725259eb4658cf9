"""Jobs as the command shows them: a table, a bar while one is watched, and JSON."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from lensmesh_cli.printable import printable
from lensmesh_cli.progress import PLAIN_EVERY_S

if TYPE_CHECKING:
    from lensmesh_client import Job

_COLOURS = {"running": "cyan", "succeeded": "green", "failed": "red", "cancelled": "yellow"}


def table(jobs: Iterable[Job]) -> Table:
    """Return a table with a row for each job."""
    rows = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("job", "kind", "collection", "state", "done", "began", "left"):
        # On a narrow terminal names are cut into lines, and nothing else.
        rows.add_column(
            name,
            justify="right" if name in ("done", "left") else "left",
            overflow="fold",
            no_wrap=name not in ("job", "collection"),
        )
    for job in jobs:
        rows.add_row(
            Text(printable(job.id)),
            kind_of(job),
            Text(printable(job.collection)),
            Text(state_of(job), _COLOURS.get(job.state, "")),
            counts_of(job),
            _ago(job.start_time or job.create_time),
            "" if job.time_left_s is None else duration(job.time_left_s),
        )
    return rows


def remarks(jobs: Iterable[Job]) -> list[str]:
    """Return a line for each job that went wrong, or that tells what it does or waits for."""
    told = ((job.id, job.error.message if job.error else job.message) for job in jobs)
    return [printable(f"{job_id}: {message}") for job_id, message in told if message]


def kind_of(job: Job) -> str:
    """Return what a job does, in words."""
    return job.kind.replace("_", " ") if job.kind else "another kind"


def state_of(job: Job) -> str:
    """Return how far a job is, in a word or two."""
    return "cancelling" if job.cancel_requested and not job.state.has_ended else str(job.state)


def counts_of(job: Job) -> str:
    """Return how much is done."""
    return f"{job.done_count:,} of {job.total_count:,}" if job.total_count else f"{job.done_count:,}"


def duration(seconds: float) -> str:
    """Return a time in the two largest units that it has: "1 h 5 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _ago(moment: datetime | None) -> str:
    return f"{duration(max(0.0, (datetime.now(UTC) - moment).total_seconds()))} ago" if moment else ""


def as_json(job: Job) -> dict[str, object]:
    """Return a job for programs. Times are in RFC 3339, durations in seconds."""
    moments = ("create_time", "start_time", "end_time", "expire_time")
    plain = {each.name: getattr(job, each.name) for each in dataclasses.fields(job)}
    plain |= {name: None if plain[name] is None else plain[name].isoformat() for name in moments}
    error = None if job.error is None else {"reason": str(job.error.reason), "message": job.error.message}
    return plain | {"error": error, "result": dict(job.result)}


class JobBar:
    """A bar of one job on a terminal, plain lines elsewhere. Call `show()` for each look at it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said = time.monotonic()
        self._progress: Progress | None = None
        if console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[counts]}"),
                TextColumn("{task.fields[pace]}", style="cyan"),
                TextColumn("{task.fields[told]}", style="dim"),
                console=console,
            )
            self._task = self._progress.add_task("job", total=1.0, counts="", pace="", told="")

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, job: Job) -> None:
        """Show how far the job is."""
        pace = f"{job.units_per_second:,.0f}/s" if job.units_per_second else ""
        if job.time_left_s is not None:
            pace += f", about {duration(job.time_left_s)} left"
        if self._progress is not None:
            self._progress.update(
                self._task,
                description=f"{kind_of(job)}: {state_of(job)}",
                completed=job.share,
                counts=counts_of(job),
                pace=pace,
                told=printable(job.message),
            )
        elif job.state.has_ended or time.monotonic() - self._said > PLAIN_EVERY_S:
            self._said = time.monotonic()
            told = ", ".join(part for part in (counts_of(job), pace, printable(job.message)) if part)
            self._console.print(
                f"{kind_of(job)}: {state_of(job)}, {told}", markup=False, highlight=False, soft_wrap=True
            )
