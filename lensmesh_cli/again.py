"""The given command as a line to run again, exact for a shell whatever bytes a name holds."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection

import typer

from lensmesh_cli.printable import printable


def command_line(context: typer.Context, without: Collection[str] = ()) -> str:
    """Return the command with the options that it was given, by words or by the environment.

    Options named in `without` are left out; they are names of the function's parameters. The line does the same in the
    same folder, in any shell.
    """
    options: list[str] = []
    arguments: list[str] = []
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name in without or source is None or source.name in {"DEFAULT", "DEFAULT_MAP"}:
            continue
        value = context.params.get(name)
        if parameter.param_type_name == "argument":
            arguments += _each(value)
        elif value is True:
            options.append(parameter.opts[0])
        else:
            # Joined: a value may begin as an option does.
            options += [f"{parameter.opts[0]}={each}" for each in _each(value)]
    guard = ["--"] if any(word.startswith("-") for word in arguments) else []
    return " ".join(map(shell_word, ["lensmesh", context.info_name or "", *options, *guard, *arguments]))


def _each(value: object) -> list[str]:
    if isinstance(value, list | tuple):
        return [str(each) for each in value]
    return [] if value in (None, False) else [str(value)]


def shell_word(word: str) -> str:
    r"""Return a word as a shell reads it.

    A character that a terminal would obey, or a byte that is not UTF-8, is written as ``$'\012'``.
    """
    if printable(word) == word:
        return shlex.quote(word)
    return "$'" + "".join(_quoted(character) for character in word) + "'"


def _quoted(character: str) -> str:
    if printable(character) != character:
        return "".join(f"\\{byte:03o}" for byte in os.fsencode(character))
    return f"\\{character}" if character in "'\\" else character
