"""The progress of a run of measurements: a bar on a terminal, a line for each measurement elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


class Progress:
    """The progress of `steps` measurements that take about `seconds` each."""

    def __init__(self, console: Console, steps: int, seconds: float) -> None:
        self._console = console
        self._steps, self._seconds = steps, seconds
        self._done = 0
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[step]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("bench", total=steps * seconds, step="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show the next measurement as long as the context is open."""
        self._bar.update(self._task, completed=self._done * self._seconds, step=name)
        began = time.monotonic()
        yield
        self._done += 1
        self._bar.update(self._task, completed=self._done * self._seconds)
        if not self._console.is_terminal:
            took = time.monotonic() - began
            line = f"{self._done} of {self._steps}: {name}, {took:.1f} s"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
