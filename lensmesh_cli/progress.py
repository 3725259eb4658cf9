"""The progress of an ingest and of a build: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from lensmesh_cli.console import Repeats

PLAIN_EVERY_S = 10.0


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.0f} images/s", "cyan")


class ShareBar:
    """A bar of how much of one piece of work is done. Call `set()` with 0 to 1, as often as it is known."""

    def __init__(self, console: Console, what: str) -> None:
        self._console = console
        self._what = what
        self._said = time.monotonic()
        self._progress: Progress | None = None
        if console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeRemainingColumn(elapsed_when_finished=True),
                console=console,
            )
            self._task = self._progress.add_task(what, total=1.0)

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def set(self, share: float) -> None:
        """Show how much is done."""
        if self._progress is not None:
            self._progress.update(self._task, completed=share)
        elif time.monotonic() - self._said > PLAIN_EVERY_S:
            self._said = time.monotonic()
            self._console.print(f"{self._what}: {share:.0%}", markup=False, highlight=False, soft_wrap=True)


class Bar:
    """A count of images and errors. Call `step()` for each answer."""

    def __init__(self, console: Console, what: str, total: int) -> None:
        self.done = self.errors = 0
        self._total = total
        self._console = console
        self._repeats = Repeats(lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))
        self._began = self._said = time.monotonic()
        self._progress: Progress | None = None
        if console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TextColumn("{task.fields[errors]}"),
                TimeRemainingColumn(elapsed_when_finished=True),
                console=console,
            )
            self._task = self._progress.add_task(what, total=total, errors="")

    def __enter__(self) -> Self:
        self._began = self._said = time.monotonic()
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._repeats.end()
        if self._progress is not None:
            self._progress.stop()

    def expect(self, total: int) -> None:
        """Set how many images are known by now."""
        if total != self._total:
            self._total = total
            if self._progress is not None:
                self._progress.update(self._task, total=total)

    @property
    def total(self) -> int:
        """The number of images that are known by now."""
        return self._total

    @property
    def seconds(self) -> float:
        """The seconds since the context was entered."""
        return time.monotonic() - self._began

    def step(self, *, ok: bool) -> None:
        """Count one more answer."""
        self.done += 1
        self.errors += not ok
        if self._progress is not None:
            errors = f"[red]{self.errors} failed[/]" if self.errors else ""
            self._progress.update(self._task, completed=self.done, errors=errors)
        elif time.monotonic() - self._said > PLAIN_EVERY_S:
            self._said = time.monotonic()
            rate = self.done / self.seconds
            left = max(self._total - self.done, 0) / rate
            count = f"{self.done} of {self._total} images, {rate:.1f} images/s"
            self._console.print(
                f"{count}, {self.errors} failed, about {left:.0f} s left", markup=False, highlight=False, soft_wrap=True
            )

    def say(self, message: str) -> None:
        """Print a line above the bar. The same line again and again is printed once, with a count."""
        self._repeats.say(message)
