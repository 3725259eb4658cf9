"""A record of which files are stored in which collection, so that a run that broke off can continue.

A journal holds lines of JSON, appended as acknowledgements come. A line {"run": {...}} begins a run: it holds the
collection's identity and the options that decide what is stored. The lines {"path", "print", "id"} after it belong to
that run. {"finished": true} means that no run is left to continue; the lines before it still tell what this folder's
ingests wrote. A line that cannot be read is skipped: its file is sent again, which changes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from lensmesh_cli.disk import explain
from lensmesh_cli.options import state_folder

# Lines that say nothing new, in proportion to those that do, before the file is written anew.
STALE_SHARE = 2


def default_path(target: str, collection: str, paths: Sequence[Path]) -> Path:
    """Return the journal's path in the user's state folder: one for each mesh, collection and set of paths.

    Raises OSError.
    """
    what = json.dumps([target, collection, sorted(str(path) for path in paths)])
    return folder() / f"{hashlib.sha256(what.encode()).hexdigest()[:24]}.jsonl"


def folder() -> Path:
    """Return the folder of the journals that no option names. Raises OSError."""
    return state_folder() / "ingest"


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A file that an ingest stored."""

    identity: str
    options: str
    fingerprint: str
    id: str
    finished: bool = False


def read_journal(path: Path) -> tuple[dict[str, JournalEntry], int]:
    """Return what a journal says of each path, and its number of lines. The last line of a path counts.

    Raises OSError. A missing journal is an empty one.
    """
    found: dict[str, JournalEntry] = {}
    count = 0
    identity = options = ""
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                count += 1
                with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                    entry = json.loads(line)
                    if "run" in entry:
                        identity, options = str(entry["run"]["identity"]), str(entry["run"]["options"])
                    elif entry.get("finished") is True:
                        found = {
                            name: JournalEntry(one.identity, one.options, one.fingerprint, one.id, finished=True)
                            for name, one in found.items()
                        }
                    elif entry.get("gone") is True:
                        found.pop(entry["path"], None)
                    elif all(isinstance(entry[key], str) for key in ("path", "print", "id")):
                        found[entry["path"]] = JournalEntry(identity, options, entry["print"], entry["id"])
    except FileNotFoundError:
        pass
    return found, count


class Journal:
    """A journal, read and opened when the object is made, closed when its context is left.

    Where it cannot be kept, `say` is told once and the run goes on. A journal that the caller named (`keep`) raises
    OSError instead when the object is made.
    """

    def __init__(self, path: Path, say: Callable[[str], None], *, keep: bool, fresh: bool = False) -> None:
        self.path = path
        self._say = say
        self._keep = keep
        self._fresh = fresh
        self._identity = self._options = ""
        self._begun = False
        self._lines = 0
        self.written: dict[str, JournalEntry] = {}
        self._file: TextIO | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and not self.path.is_file():
                raise FileExistsError(errno.EEXIST, "it is a folder, a pipe or a device, not a file")
            self.written, self._lines = read_journal(self.path)
            self._file = self.path.open("a", encoding="utf-8")
            if self._file.tell():
                # After a torn line a new one begins.
                self._file.write("\n")
        except OSError as error:
            if self._keep:
                raise
            self._give_up(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def begin(self, identity: str, options: Mapping[str, object]) -> None:
        """Set the collection's identity and the options for the following lines.

        "" means that there is no collection yet.
        """
        self._identity, self._options = identity, json.dumps(options, sort_keys=True)
        self._begun = False

    def known(self, path: Path, fingerprint: str) -> str:
        """Return the id of a file that is unchanged since a run into this collection with these options; else ""."""
        entry = self.written.get(str(path))
        if self._fresh or not self._identity or entry is None or (entry.finished and not self._keep):
            return ""
        same = (entry.identity, entry.options, entry.fingerprint) == (self._identity, self._options, fingerprint)
        return entry.id if same else ""

    def add(self, path: Path, fingerprint: str, item_id: str) -> None:
        """Record that a file is stored."""
        self.written[str(path)] = JournalEntry(self._identity, self._options, fingerprint, item_id)
        self._append({"path": str(path), "print": fingerprint, "id": item_id})

    def drop(self, paths: Sequence[str]) -> None:
        """Record that the items of these paths are removed."""
        for path in paths:
            if self.written.pop(path, None) is not None:
                self._append({"path": path, "gone": True})

    def finished(self) -> None:
        """Record that all is stored and no run is left to continue.

        In a journal that an option names, later runs still count the files as known.
        """
        if not self._keep:
            self._append({"finished": True})
        if self._lines > STALE_SHARE * len(self.written) + 100:
            self._compact()

    def of_this_collection(self) -> Iterator[tuple[str, str]]:
        """Yield path and id of everything that any run wrote into this collection."""
        return ((path, one.id) for path, one in self.written.items() if one.identity == self._identity != "")

    def _append(self, entry: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        lines = json.dumps(entry) + "\n"
        if not self._begun:
            run = {"identity": self._identity, "options": self._options}
            lines = json.dumps({"run": run}) + "\n" + lines
        try:
            self._file.write(lines)
            self._file.flush()
        except OSError as error:
            self._give_up(error)
        else:
            self._begun = True
            self._lines += 1

    def _compact(self) -> None:
        draft = self.path.with_name(self.path.name + ".draft")
        last = ("", "")
        try:
            with draft.open("w", encoding="utf-8") as file:
                for path, one in self.written.items():
                    if one.identity != self._identity:
                        continue
                    if (one.identity, one.options) != last:
                        last = one.identity, one.options
                        file.write(json.dumps({"run": {"identity": last[0], "options": last[1]}}) + "\n")
                    file.write(json.dumps({"path": path, "print": one.fingerprint, "id": one.id}) + "\n")
                if not self._keep:
                    file.write(json.dumps({"finished": True}) + "\n")
            draft.replace(self.path)
        except OSError:
            # The long one is as good.
            with contextlib.suppress(OSError):
                draft.unlink()

    def _give_up(self, error: OSError) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._file = None
        self._say(
            f"no journal is kept ({explain(error, str(self.path))}): a run that breaks off begins anew; "
            "--journal FILE names another place"
        )
