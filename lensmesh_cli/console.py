"""The output and the exit codes of the command: results on standard output, everything else on standard error."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Any, NoReturn

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text
from typing_extensions import override

from lensmesh_cli.printable import json_line, printable_lines

_SECONDS = re.compile(r"\b[0-9]+(\.[0-9]+)? s\b")


class SafeConsole(Console):
    """A console that makes all text harmless before a terminal could obey it. No other place does that.

    A string is made harmless before it is laid out, whatever else is rendered afterwards. Calling `printable` before
    that keeps the columns of a table straight.
    """

    @override
    def render_str(self, text: str, **options: Any) -> Text:
        """Lay out as rich does."""
        return super().render_str(printable_lines(text), **options)

    @override
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does.

        rich's own control segments stay. In segments of text nothing is left that a terminal would obey.
        """
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable_lines(segment.text), segment.style)


out = SafeConsole()
err = SafeConsole(stderr=True)


class Exit(IntEnum):
    """Exit codes, the same for every command."""

    DONE = 0
    FAILED = 1
    """Something could not be done. The rest was done."""
    USAGE = 2
    """The command line is wrong."""
    UNREACHABLE = 3
    """No mesh answers, or not in time."""
    INCOMPLETE = 4
    """All is stored, but some captions are missing."""
    INTERRUPTED = 130
    """Ctrl-C."""


EXIT_CODES = "Exit codes: 0 done, 1 something failed, 2 wrong usage, 3 no mesh answers in time, 130 interrupted."


class Repeats:
    """A writer that says a message once.

    Before another message, or at the end, it says how often the last one came again.

    Messages that differ only in the seconds they name, as those of a growing delay do, are the same.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said = self._last = ""
        self._again = 0

    def say(self, message: str) -> None:
        """Say a message, unless it is the same as the last one."""
        if _timeless(message) == _timeless(self._said):
            self._again += 1
            self._last = message
            return
        self.end()
        self._said = self._last = message
        self._say(message)

    def end(self) -> None:
        """Say how often the last message came again."""
        if self._again:
            lastly = "" if self._last == self._said else f", lastly: {self._last}"
            self._say(f"(the same {self._again} times more{lastly})")
        self._said, self._again = "", 0


def _timeless(message: str) -> str:
    return _SECONDS.sub("", message)


def print_json(value: object) -> None:
    """Print one JSON document on one line. Nothing in it is a character that a terminal obeys."""
    sys.stdout.write(json_line(value) + "\n")
    sys.stdout.flush()


def note(message: str) -> None:
    """Print something to know, on standard error."""
    err.print(message, markup=False, highlight=False, soft_wrap=True)


def fail(message: str, code: Exit = Exit.FAILED) -> NoReturn:
    """Say why, and end the command."""
    say_error(message)
    raise typer.Exit(int(code))


def say_error(message: str) -> None:
    """Print why a command ends."""
    err.print("[bold red]error:[/] ", end="")
    err.print(message, markup=False, highlight=False, soft_wrap=True)
