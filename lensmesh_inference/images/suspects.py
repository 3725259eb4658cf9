"""A memory of the images that were being decoded when a service's process ended unexpectedly.

Each process has a small file that is mapped into its memory. It has a slot for each thread, with the fingerprint of the
image that the thread decodes now. Writing there costs no system call, and what is written outlives the process, however
it ends. The next process to start finds the files that no process holds any more. The images named in them are suspects
from then on, and are decoded where they can end no service.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import mmap
import os
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

_FINGERPRINT_BYTES: Final = 16
# Of both ends: two files that are equal in both and in length are hardly two images, and if they are, nothing is lost
# but time. Few, since every image that is decoded pays for it.
_LOOKED_AT_BYTES: Final = 1024
_SLOTS: Final = 64
_PREFIX: Final = "decoding-"
_KNOWN: Final = "suspects"
# As many are remembered: the newest.
_MOST_SUSPECTS: Final = 4096
_log = logging.getLogger(__name__)


def fingerprint(content: bytes) -> bytes:
    """Return a short digest by which an image is recognized."""
    digest = hashlib.blake2b(len(content).to_bytes(8, "big"), digest_size=_FINGERPRINT_BYTES)
    digest.update(content[:_LOOKED_AT_BYTES])
    digest.update(content[-_LOOKED_AT_BYTES:])
    return digest.digest()


def state_folder(setting: str) -> Path | None:
    """Return the folder that the setting `state_dir` names.

    It is a path, "auto" for one in the user's cache folder, or "" for none.
    """
    if setting != "auto":
        return Path(setting) if setting else None
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lensmesh" / "decoding"


class Suspects:
    """The images that may have ended a process, and those that this process decodes now."""

    def __init__(self, folder: Path | None = None) -> None:
        """Take over what ended processes left in `folder`.

        Without a folder, or with one that cannot be written, nothing outlives this process.
        """
        self._known: set[bytes] = set()
        self._free = deque(range(_SLOTS))
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._slots: mmap.mmap | bytearray = bytearray(_SLOTS * _FINGERPRINT_BYTES)
        if folder is None:
            return
        try:
            self._open(folder)
        except OSError as error:
            _log.warning("images that end a decoder are not remembered in %s: %s", folder, error)

    def __contains__(self, content: bytes) -> bool:
        """Tell whether an image was being decoded when a process ended."""
        return bool(self._known) and fingerprint(content) in self._known

    @contextmanager
    def decoding(self, content: bytes) -> Iterator[None]:
        """Remember an image as long as the context is open."""
        with self._lock:
            slot = self._free.popleft() if self._free else None
        if slot is None:
            yield
            return
        start = slot * _FINGERPRINT_BYTES
        place = slice(start, start + _FINGERPRINT_BYTES)
        self._slots[place] = fingerprint(content)
        try:
            yield
        finally:
            self._slots[place] = bytes(_FINGERPRINT_BYTES)
            with self._lock:
                self._free.append(slot)

    def close(self) -> None:
        """Forget the images that are decoded now. Call it when none is."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                Path(self._file.name).unlink()
            self._let_go()

    def _let_go(self) -> None:
        """Close the file and its mapping, which would keep it locked."""
        if isinstance(self._slots, mmap.mmap):
            self._slots.close()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        left = [name for path in folder.glob(f"{_PREFIX}*") for name in _take(path)]
        known = folder / _KNOWN
        before = known.read_bytes() if known.exists() else b""
        names = [*_fingerprints(before), *left][-_MOST_SUSPECTS:]
        if left:
            _log.warning("%d images were being decoded when a process ended: they are decoded with care", len(left))
            _replace(known, b"".join(names))
        self._known = set(names)
        file = tempfile.NamedTemporaryFile(dir=folder, prefix=_PREFIX, delete=False)  # noqa: SIM115 - closed by close
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(len(self._slots))
        self._slots = mmap.mmap(file.fileno(), len(self._slots))
        self._file = file


def _take(path: Path) -> list[bytes]:
    """Return the fingerprints that an ended process left in its file. A file of a running process gives none."""
    try:
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            names = _fingerprints(file.read())
            path.unlink()
    except OSError:
        # Held, or taken by another process that starts now.
        return []
    return names


def _fingerprints(raw: bytes) -> list[bytes]:
    parts = (raw[at : at + _FINGERPRINT_BYTES] for at in range(0, len(raw), _FINGERPRINT_BYTES))
    return [part for part in parts if len(part) == _FINGERPRINT_BYTES and any(part)]


def _replace(path: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)
