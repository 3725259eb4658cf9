"""Commands that a page shows, with what they print: taken out of it, run, and compared."""

import re
from dataclasses import dataclass

VOLATILE = re.compile(
    r'("(?:\w+_us|memory_\w+|start_time|create_time|update_time|instance|version|canary_age|threads|store)": )'
    r'("[^"]*"|[0-9.]+)'
)
"""Values that differ from one run to the next, or from one machine to the next."""

NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")


@dataclass(frozen=True)
class Recipe:
    """One command of a page and the output shown below it, "" where none is."""

    command: str
    output: str
    line: int
    """Of the page, from 1."""

    @property
    def streams(self) -> bool:
        """Whether it calls a method that answers in the order in which things get ready."""
        return "Stream" in self.command


def recipes(page: str) -> list[Recipe]:
    """Every command after "$ " in the page's fenced blocks.

    A command goes on over lines that end in a backslash or a pipe, in an open quote, or up to the END of a
    here-document.
    """
    found: list[Recipe] = []
    inside = False
    command: list[str] = []
    output: list[str] = []
    start = 0

    def finish() -> None:
        if command:
            found.append(Recipe("\n".join(command), "\n".join(output), start))
        command.clear()
        output.clear()

    for number, line in enumerate(page.splitlines(), 1):
        if line.startswith("```"):
            finish()
            inside = not inside
        elif inside and line.startswith("$ ") and not _open("\n".join(command)):
            finish()
            start = number
            command.append(line[2:])
        elif command and not output and _open("\n".join(command)):
            command.append(line)
        elif command:
            output.append(line)
    return found


def _open(command: str) -> bool:
    """Whether the shell would ask for another line."""
    if "<<'END'" in command:
        return not command.endswith("\nEND")
    quote, escaped = "", False
    for character in command:
        if escaped:
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
    return bool(quote) or escaped or command.endswith("|")


def same(shown: str, printed: str, *, ordered: bool = True) -> bool:
    """Whether `printed` is what the page shows.

    A line of `...` stands for any lines, `...` in a line for any text, volatile values for any value; fractions may
    differ by 0.01. Where not `ordered`, each line shown must be among those printed.
    """
    wanted, got = _lines(shown), _lines(printed)
    if ordered or not wanted:
        return _match(wanted, got)
    return all(any(_alike(one, other) for other in got) for one in wanted if one != "...")


def _lines(text: str) -> list[str]:
    return [VOLATILE.sub(r"\1*", line.strip()) for line in text.splitlines() if line.strip()]


def _match(wanted: list[str], got: list[str]) -> bool:
    if not wanted:
        return not got
    if wanted[0] == "...":
        return any(_match(wanted[1:], got[start:]) for start in range(len(got) + 1))
    return bool(got) and _alike(wanted[0], got[0]) and _match(wanted[1:], got[1:])


def _alike(shown: str, printed: str) -> bool:
    if "..." in shown:
        return re.fullmatch(".*".join(map(re.escape, shown.split("..."))), printed) is not None
    if NUMBER.sub("#", shown) != NUMBER.sub("#", printed):
        return False
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True)
    return all(abs(float(one) - float(other)) <= 0.01 for one, other in pairs)
