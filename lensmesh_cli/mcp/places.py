"""The folders that the operator allows, and the files below them. Nothing else on this machine is read."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from typing_extensions import override

from lensmesh_chassis.files import NotReadableError, TooLargeError, read_file
from lensmesh_cli.disk import Disk, explain
from lensmesh_cli.mcp.cleaning import cleaned
from lensmesh_cli.mcp.failures import Refused
from lensmesh_cli.sources import ImageFile, Problem, Walk

SHOWN_CHARS = 200
MOST_FILES = 100_000
"""The files that one ingest takes."""


class AllowedFolders:
    """Folders of this machine, with links followed: what a path leads to must lie below one of them."""

    def __init__(self, folders: Sequence[Path], disk: Disk) -> None:
        self.folders = [folder.resolve() for folder in folders]
        self._disk = disk

    def folder(self, path: str) -> Path:
        """Return a folder at or below an allowed one. Raises Refused. It asks the disk: call it in a thread."""
        found = self._allowed(path)
        try:
            is_folder = self._disk.run(found.is_dir)
        except OSError as error:
            raise Refused(f"{_shown(path)} cannot be read: {explain(error)}", "PATH_UNREADABLE") from error
        if not is_folder:
            raise Refused(f"{_shown(path)} is no folder: name a folder that is there", "PATH_UNREADABLE")
        return found

    def image(self, path: str, most_bytes: int) -> bytes:
        """Return the content of a file below an allowed folder. Raises Refused. Call it in a thread."""
        found = self._allowed(path)
        try:
            return self._disk.run(functools.partial(read_file, found, most_bytes)).data
        except TooLargeError as error:
            raise Refused(f"{_shown(path)}: {error}", "IMAGE_TOO_LARGE") from error
        except NotReadableError as error:
            raise Refused(f"{_shown(path)}: {error}", "PATH_UNREADABLE") from error
        except OSError as error:
            error.filename = None
            raise Refused(f"{_shown(path)} cannot be read: {explain(error)}", "PATH_UNREADABLE") from error

    def _allowed(self, path: str) -> Path:
        """Return what a path leads to. One that leads elsewhere is refused, whether something is there or not."""
        if not self.folders:
            raise Refused(
                "this server may read no files: it was started without --folder. Send the image as image_base64, or "
                "ask the person who runs the server to allow a folder",
                "PATH_NOT_ALLOWED",
            )
        # An absolute path stays as it is. A relative one is meant from an allowed folder, the first that has it.
        found = [self._resolved(folder / path, path) for folder in self.folders]
        inside = [each for each in found if self.holds(each)]
        for each in inside:
            if self._disk.run(functools.partial(os.path.exists, each)):
                return each
        if inside:
            return inside[0]
        allowed = ", ".join(_shown(str(folder)) for folder in self.folders)
        raise Refused(
            f"{_shown(path)} is not below a folder that this server may read: name one below {allowed}",
            "PATH_NOT_ALLOWED",
        )

    def _resolved(self, path: Path, said: str) -> Path:
        try:
            return self._disk.run(functools.partial(path.resolve, strict=False))
        except (OSError, ValueError, RuntimeError) as error:
            # A NUL, a name that is too long, links in a circle.
            raise Refused(f"{_shown(said)} is no path that can be read: write another", "PATH_UNREADABLE") from error

    def holds(self, path: Path) -> bool:
        """Tell whether a resolved path is an allowed folder or lies below one."""
        return any(path == folder or folder in path.parents for folder in self.folders)


class AllowedWalk(Walk):
    """A walk that leaves out links out of the allowed folders, and ends after MOST_FILES files."""

    def __init__(self, folder: Path, allowed: AllowedFolders, disk: Disk) -> None:
        super().__init__([folder], disk)
        self._allowed = allowed
        self._asked = disk
        self.cut = False
        """True where it ended before all files were found."""

    @override
    def __iter__(self) -> Iterator[ImageFile | Problem]:
        for found in super().__iter__():
            yield self._checked(found) if isinstance(found, ImageFile) else found
            if self.images + self.problems >= MOST_FILES:
                self.cut = True
                return

    def _checked(self, found: ImageFile) -> ImageFile | Problem:
        """Return the file that a path leads to: what is read is what was checked."""
        try:
            real = self._asked.run(functools.partial(found.path.resolve, strict=True))
        except (OSError, RuntimeError) as error:
            problem = error if isinstance(error, OSError) else NotReadableError(str(error))
        else:
            if self._allowed.holds(real):
                return ImageFile(real)
            problem = NotReadableError("it is a link that leads out of the allowed folders: copy the file itself there")
        self.images -= 1
        self.problems += 1
        return Problem(found.path, problem)


def _shown(path: str) -> str:
    return cleaned(path, SHOWN_CHARS)
