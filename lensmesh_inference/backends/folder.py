"""The folder of compiled models: what took long to make is made once on a machine.

An entry is a folder of files with a list of their checksums. It is made beside its place and renamed into it, so that
two processes that start at once cannot spoil each other's work; one that is damaged is made again. Nothing in it is
needed: it may be emptied at any time, and where it cannot be written everything is made anew at each start.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lensmesh_inference.digest import Json, json_digest

_CHECKSUMS: Final = "checksums.json"
_CHUNK: Final = 1 << 24
_log = logging.getLogger(__name__)


def compiled_folder(setting: str) -> CompiledFolder:
    """What the setting `compiled_dir` means: a path, "auto" for one in the user's cache folder, "" for none."""
    if setting == "auto":
        return CompiledFolder(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lensmesh")
    return CompiledFolder(Path(setting).expanduser() if setting else None)


class CompiledFolder:
    """`path` None: nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @property
    def keeps(self) -> bool:
        """Whether anything is kept."""
        return self._path is not None

    def entry(self, kind: str, key: Json, make: Callable[[Path], None]) -> CompiledEntry:
        """What `make` writes into the folder that it is given, now or in an earlier process.

        `kind` is for people who look into the folder; `key` tells everything that the files depend on.
        """
        name = f"{kind}-{json_digest(key)[:32]}"
        if self._path is not None:
            place = self._path / name
            if place.is_dir():
                damage = _damage(place)
                if not damage:
                    return CompiledEntry(place, reused=True)
                _log.warning("%s is damaged (%s): it is made again", place, damage)
                shutil.rmtree(place, ignore_errors=True)
            try:
                self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
                scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=self._path))
            except OSError as error:
                _log.warning("compiled models cannot be kept in %s, every start makes them anew: %s", self._path, error)
            else:
                return _keep(scratch, place, make)
        scratch = Path(tempfile.mkdtemp(prefix=f"lensmesh-{name}-"))
        return _fill(scratch, make)


class CompiledEntry:
    """Files that are there until `close`: for good where they are kept, in a temporary folder where not."""

    def __init__(self, path: Path, *, reused: bool = False, temporary: bool = False) -> None:
        self.path = path
        self.reused = reused
        self._temporary = temporary

    def close(self) -> None:
        """The files have been read."""
        if self._temporary:
            shutil.rmtree(self.path, ignore_errors=True)


def _keep(scratch: Path, place: Path, make: Callable[[Path], None]) -> CompiledEntry:
    try:
        make(scratch)
        _write_checksums(scratch)
    except OSError as error:
        # A full disk, most likely.
        shutil.rmtree(scratch, ignore_errors=True)
        _log.warning("%s could not be written: %s", place, error)
        return _fill(Path(tempfile.mkdtemp(prefix="lensmesh-")), make)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    try:
        scratch.rename(place)
    except OSError:
        # Another process was first, with the same: renaming onto a folder that is not empty is refused.
        if place.is_dir():
            shutil.rmtree(scratch, ignore_errors=True)
            return CompiledEntry(place)
        return CompiledEntry(scratch, temporary=True)
    return CompiledEntry(place)


def _fill(scratch: Path, make: Callable[[Path], None]) -> CompiledEntry:
    try:
        make(scratch)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return CompiledEntry(scratch, temporary=True)


def _write_checksums(folder: Path) -> None:
    sums = {path.name: _checksum(path) for path in sorted(folder.iterdir())}
    (folder / _CHECKSUMS).write_text(json.dumps(sums))


def _damage(folder: Path) -> str:
    """What is wrong with an entry; empty if nothing."""
    try:
        sums = json.loads((folder / _CHECKSUMS).read_text())
        for name, expected in sums.items():
            if _checksum(folder / name) != expected:
                return f"{name} has changed"
    except (OSError, ValueError, AttributeError) as error:
        return str(error)
    return ""


def _checksum(path: Path) -> int:
    # Against broken disks and half-written files, not against people who may write here.
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return value
