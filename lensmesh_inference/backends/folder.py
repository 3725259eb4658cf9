"""The folder of compiled models: what takes long to make is made once on a machine.

An entry is a folder of files with a list of their checksums. It is made under another name and then renamed, so that
two processes that start at once cannot spoil each other's work. A damaged entry is made again. Nothing in the folder is
needed: it may be emptied at any time, and where it cannot be written everything is made again at each start.
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
    """Return the folder that the setting `compiled_dir` names.

    It is a path, "auto" for one in the user's cache folder, or "" for none.
    """
    if setting == "auto":
        return CompiledFolder(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lensmesh")
    return CompiledFolder(Path(setting).expanduser() if setting else None)


class CompiledFolder:
    """The folder of compiled models. Without a `path` nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @property
    def keeps(self) -> bool:
        """True where anything is kept."""
        return self._path is not None

    def entry(self, kind: str, key: Json, make: Callable[[Path], None]) -> CompiledEntry:
        """Return what `make` writes into the folder that it is given, now or in an earlier process.

        `kind` is for people who look into the folder. `key` holds everything that the files depend on.
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
    """The files of an entry.

    They exist until `close`: for good where they are kept, in a temporary folder where not.
    """

    def __init__(self, path: Path, *, reused: bool = False, temporary: bool = False) -> None:
        self.path = path
        self.reused = reused
        self._temporary = temporary

    def close(self) -> None:
        """Release the files once they have been read."""
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
    """Say what is wrong with an entry. Return "" where nothing is."""
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
