"""Labels of a command line: those that are named, and those of a file with a label in each line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lensmesh_chassis.files import NotReadableError, TooLargeError, read_file
from lensmesh_chassis.labels import MAX_LABELS
from lensmesh_cli.console import Exit, fail
from lensmesh_cli.printable import printable

_MOST_BYTES: Final = 32 << 20
_COMMENT: Final = "#"


def read_label_file(path: Path, option: str) -> dict[str, int]:
    """Return the labels of a file and the number of the line of each, in the file's order.

    A line is a label, without the blanks around it. Empty lines and lines that begin with "#" are none. End the command
    where the file cannot be read, is not UTF-8, has no label, too many, or one twice; the message names the line.
    """
    shown = printable(str(path))
    labels: dict[str, int] = {}
    for number, line in enumerate(_lines(path, option, shown), 1):
        label = line.strip()
        if not label or label.startswith(_COMMENT):
            continue
        if label in labels:
            fail(
                f"{option}: {shown}, line {number}: {printable(label)!r} stands in line {labels[label]} already",
                Exit.USAGE,
            )
        if "\0" in label:
            fail(f"{option}: {shown}, line {number}: the label holds a NUL character", Exit.USAGE)
        labels[label] = number
        if len(labels) > MAX_LABELS:
            fail(f"{option}: {shown}, line {number}: more than {MAX_LABELS} labels", Exit.USAGE)
    if not labels:
        fail(f"{option}: {shown} holds no label: write one in each line", Exit.USAGE)
    return labels


def chosen_labels(file: Path | None, named: Sequence[str]) -> list[str]:
    """Return the labels of `--labels` and then those of `--label`. End the command for none, and for one twice."""
    labels = list(read_label_file(file, "--labels")) if file is not None else []
    for label in named:
        if label in labels:
            fail(f"--label: {printable(label)!r} is there already: give each label once", Exit.USAGE)
        labels.append(label)
    if not labels:
        fail("give labels: --labels FILE with one in each line, or --label WORDS, repeatable", Exit.USAGE)
    return labels


def _lines(path: Path, option: str, shown: str) -> list[str]:
    try:
        data = read_file(path, _MOST_BYTES).data
    except TooLargeError as error:
        fail(f"{option}: {shown} has {error.size} bytes, and a file of labels at most {_MOST_BYTES}", Exit.USAGE)
    except NotReadableError as error:
        fail(f"{option}: {shown}: {error}", Exit.USAGE)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        fail(f"{option}: {shown} cannot be read: {why}", Exit.USAGE)
    lines = data.removeprefix(b"\xef\xbb\xbf").splitlines()
    read: list[str] = []
    for number, line in enumerate(lines, 1):
        try:
            read.append(line.decode())
        except UnicodeDecodeError:
            fail(f"{option}: {shown}, line {number}: it is not UTF-8", Exit.USAGE)
    return read
