"""Remembers which files of an ingest are stored, so that a run that broke off goes on where it was."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from lensmesh_cli.options import state_folder


def default_path(target: str, collection: str, paths: Sequence[Path]) -> Path:
    """One journal for each mesh, collection and set of paths, in the user's state folder."""
    what = json.dumps([target, collection, sorted(str(path.resolve()) for path in paths)])
    return state_folder() / "ingest" / f"{hashlib.sha256(what.encode()).hexdigest()[:24]}.jsonl"


def fingerprint(path: Path, metadata: Mapping[str, object] | None) -> str:
    """Changes when the file or what is said about it does."""
    facts = path.stat()
    said = json.dumps(metadata, sort_keys=True, default=str)
    return hashlib.sha256(f"{facts.st_size} {facts.st_mtime_ns} {said}".encode()).hexdigest()[:16]


class Journal:
    """Lines of {"path", "print", "id"}, written as acknowledgements come. A torn last line is no harm."""

    def __init__(self, path: Path, *, keep: bool) -> None:
        self._path = path
        self._keep = keep
        self._stored: dict[str, str] = {}
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(line)
                    self._stored[entry["path"]] = entry["print"]
        self._file = self._path.open("a", encoding="utf-8")
        # After a torn line a new one begins.
        if self._file.tell():
            self._file.write("\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def has(self, path: Path, print_: str) -> bool:
        """Whether that file, unchanged since, is stored."""
        return self._stored.get(str(path.resolve())) == print_

    def add(self, path: Path, print_: str, item_id: str) -> None:
        """It is stored now."""
        if self._file is not None:
            line = {"path": str(path.resolve()), "print": print_, "id": item_id}
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def finished(self) -> None:
        """All is stored: there is nothing to go on with."""
        if not self._keep:
            self._path.unlink(missing_ok=True)

    def forget(self) -> None:
        """Begins anew."""
        self._stored.clear()
