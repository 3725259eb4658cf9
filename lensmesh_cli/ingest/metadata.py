"""A file of lines with metadata of images: {"path": ..., any other keys}."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from unicodedata import normalize

from lensmesh_cli.console import Exit, fail
from lensmesh_cli.disk import explain
from lensmesh_cli.printable import encodable

MAX_LINE_CHARS = 4 << 20


class Metadata:
    """The lines of metadata, found by an image's whole path, or by the last parts of it, the longest first.

    A name is the same however its accents are encoded (NFC or NFD); where a file has lines for both, each image finds
    its own. A byte that is not UTF-8 is written as the command's own output writes it (`printable.encodable`).
    """

    def __init__(self, source: Path | None) -> None:
        self._by_path: dict[str, Mapping[str, object]] = {}
        self._alike: dict[str, str] = {}
        self._used: set[str] = set()
        self.source = source
        self.repeated: list[str] = []
        """The paths that stand in several lines. The last line counts."""
        if source is not None:
            self._read(source)

    def __len__(self) -> int:
        return len(self._by_path)

    @property
    def unused(self) -> list[str]:
        """The paths of lines that fitted no image so far."""
        return [path for path in self._by_path if path not in self._used]

    def of(self, path: Path) -> dict[str, object] | None:
        """Return the metadata of an image, None for no line."""
        parts = path.as_posix().split("/")
        tails = ["/".join(parts[start:]) for start in range(len(parts))]
        for tail in [*tails, os.path.abspath(path)]:  # noqa: PTH100  # links stay as they are
            key = tail if tail in self._by_path else self._alike.get(_alike(tail))
            if key is not None:
                self._used.add(key)
                return dict(self._by_path[key])
        return None

    def _read(self, source: Path) -> None:
        try:
            # A pipe will do: it is read once, line by line.
            with source.open(encoding="utf-8-sig") as lines:
                number = 0
                while line := lines.readline(MAX_LINE_CHARS):
                    number += 1
                    if len(line) == MAX_LINE_CHARS:
                        fail(f"{source}, line {number} has more than {MAX_LINE_CHARS} characters", Exit.USAGE)
                    if line.strip():
                        self._add(*_line(source, number, line))
        except UnicodeDecodeError as error:
            fail(f"{source} cannot be read: it is not UTF-8 ({error.reason})", Exit.USAGE)
        except OSError as error:
            fail(f"--metadata: {explain(error, str(source))}", Exit.USAGE)

    def _add(self, path: str, values: dict[str, object]) -> None:
        if path in self._by_path:
            self.repeated.append(path)
        self._by_path[path] = values
        self._alike[_alike(path)] = path


def _alike(path: str) -> str:
    return normalize("NFC", encodable(path))


def _line(source: Path, number: int, line: str) -> tuple[str, dict[str, object]]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        fail(f"{source}, line {number} is not JSON: {error}", Exit.USAGE)
    if not isinstance(values, dict) or not isinstance(values.get("path"), str):
        fail(f'{source}, line {number} is not an object with a "path"', Exit.USAGE)
    return str(values.pop("path")).removeprefix("./"), values
