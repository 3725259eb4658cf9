"""What the command prints: results on standard output, everything else on standard error. And what its exit means."""

from __future__ import annotations

import json
import sys
from enum import IntEnum
from typing import NoReturn

import typer
from rich.console import Console

out = Console()
err = Console(stderr=True)


class Exit(IntEnum):
    """Exit codes, the same for every command."""

    DONE = 0
    FAILED = 1
    """Something could not be done; the rest was."""
    USAGE = 2
    """The command line is wrong."""
    UNREACHABLE = 3
    """No mesh answers, or not in time."""
    INTERRUPTED = 130
    """Ctrl-C."""


EXIT_CODES = "Exit codes: 0 done, 1 something failed, 2 wrong usage, 3 no mesh answers in time, 130 interrupted."


def print_json(value: object) -> None:
    """One JSON document, on one line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def note(message: str) -> None:
    """Something to know, on standard error."""
    err.print(message, markup=False, highlight=False, soft_wrap=True)


def fail(message: str, code: Exit = Exit.FAILED) -> NoReturn:
    """Says why and ends the command."""
    err.print(f"[bold red]error:[/] {_plain(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(int(code))


def _plain(text: str) -> str:
    return text.replace("[", "\\[")
