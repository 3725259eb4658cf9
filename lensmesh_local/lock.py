"""The lock of a data folder: there is one mesh for each."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

PATIENCE_S = 10.0
PAUSE_S = 0.2


class DataFolderError(Exception):
    """The data folder is used by another mesh."""


class FolderLock:
    """A lock that this process and its children hold, so that no process of the last mesh is left when it is free."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The file descriptors that children have to inherit; none while the lock is free."""
        return () if self._descriptor is None else (self._descriptor,)

    async def take(self) -> None:
        """Take the lock, from a mesh that is ending if need be. Raises DataFolderError where another one runs."""
        descriptor = self._descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                holder = os.pread(descriptor, 100, 0).decode() or "another process"
                if _alive(holder) or asyncio.get_running_loop().time() > deadline:
                    self.release()
                    raise DataFolderError(
                        f"the data folder {self._folder} is in use by the mesh of process {holder}: stop that one, or "
                        "name another folder with --data"
                    ) from None
                await asyncio.sleep(PAUSE_S)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let the lock go; children that run on still hold it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
