"""Which pictures a command line means, and what is known about them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lensmesh_cli.console import Exit, fail

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


def pictures(paths: Sequence[Path]) -> list[Path]:
    """Files as named, whatever their suffix; in folders every picture below, hidden ones left out. Each once."""
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found.update(dict.fromkeys(_below(path)))
        elif path.exists():
            found[path] = None
        else:
            fail(f"{path} does not exist", Exit.USAGE)
    return list(found)


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(parent) / name


class Metadata:
    """Lines of {"path": ..., any other keys}; a path is matched as a whole, or by its last parts."""

    def __init__(self, source: Path | None) -> None:
        self._by_path: dict[str, Mapping[str, object]] = {}
        if source is None:
            return
        try:
            lines = source.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            fail(f"{source} cannot be read: {error}", Exit.USAGE)
        for number, line in enumerate(lines, 1):
            if line.strip():
                path, values = _line(source, number, line)
                self._by_path[path] = values

    def __len__(self) -> int:
        return len(self._by_path)

    def of(self, path: Path) -> dict[str, object] | None:
        """What is known of that picture: "a/b.jpg" finds lines that say "a/b.jpg" or "b.jpg", the longest first."""
        parts = path.as_posix().split("/")
        for start in range(len(parts)):
            found = self._by_path.get("/".join(parts[start:]))
            if found is not None:
                return dict(found)
        absolute = self._by_path.get(path.resolve().as_posix())
        return None if absolute is None else dict(absolute)


def _line(source: Path, number: int, line: str) -> tuple[str, dict[str, object]]:
    try:
        values = json.loads(line)
    except ValueError as error:
        fail(f"{source}, line {number} is not JSON: {error}", Exit.USAGE)
    if not isinstance(values, dict) or not isinstance(values.get("path"), str):
        fail(f'{source}, line {number} is not an object with a "path"', Exit.USAGE)
    path = str(values.pop("path")).removeprefix("./")
    return path, values
