"""The files that a command line means: those that it names, and the images below the folders that it names."""

from __future__ import annotations

import functools
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from lensmesh_cli.console import Exit, fail, note
from lensmesh_cli.disk import Disk, explain
from lensmesh_cli.printable import printable

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"}
    | {".tif", ".tiff"}
)
"""Suffixes of image files, in upper or lower case. Files of other names are taken if their content is an image."""
RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".gpr", ".iiq", ".k25", ".kdc", ".mef", ".mos"}
    | {".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"}
)
"""Suffixes of camera raw files. They begin as TIFF files do, and no service reads them."""
LEFT_OUT = frozenset(
    {"@eadir", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "__macosx"}
    | {"lost+found", "thumbs.db", "desktop.ini"}
)
"""Thumbnails, trash and notes of other programs, in lower case; hidden names go with them (`.Trash-1`, `._a.jpg`)."""
SHOWN = 10
"""The number of suffixes that are listed by name."""
_HEAD_BYTES = 32
_OPEN = os.O_RDONLY
# Some of these are not everywhere.
for _name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):
    _OPEN |= getattr(os, _name, 0)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file that may hold an image."""

    path: Path


@dataclass(frozen=True, slots=True)
class Problem:
    """A file or folder that cannot be read, and why."""

    path: Path
    error: OSError


class RefusedFileError(OSError):
    """A file that a command does not take. `reason` is one of the contracts'."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    kind: str
    """"folder", "file", "link", or "special"."""


class Walk:
    """A walk through the files of a command line, folder by folder. Each call to the disk has the disk's time limit.

    A named file is taken whatever its name. Folders are searched, except for hidden and left-out names. A link to a
    file is taken as the file, a link to a folder only with `follow`. `exclude` are patterns of names or of paths below
    the named folder. No folder is entered twice, so that links in a circle end.
    """

    def __init__(self, paths: Sequence[Path], disk: Disk, *, follow: bool = False, exclude: Sequence[str] = ()) -> None:
        self._paths = paths
        self._disk = disk
        self._follow = follow
        self._exclude = tuple(exclude)
        # Within a folder they are passed by: their turn comes when they are named.
        self._named = {_key(path) for path in paths}
        self._taken: set[str] = set()
        self._entered: set[tuple[int, int]] = set()
        self.passed: Counter[str] = Counter()
        """Files without an image, by suffix in lower case."""
        self.left_out: Counter[str] = Counter()
        """Names left out by default, and patterns of `exclude`, with how many files and folders each kept out."""
        self.links: list[Path] = []
        """Links to folders that were not followed."""
        self.followed: list[Path] = []
        """Links to folders that were followed."""
        self.problems = 0
        self.images = 0

    def __iter__(self) -> Iterator[ImageFile | Problem]:
        for path in self._paths:
            try:
                facts = self._disk.run(path.stat)
            except OSError as error:
                yield self._problem(path, error)
                continue
            if stat.S_ISDIR(facts.st_mode):
                yield from self._below(path)
            elif (key := _key(path)) not in self._taken:
                self._taken.add(key)
                yield self._found(path)

    def _found(self, path: Path) -> ImageFile | Problem:
        self.images += 1
        return ImageFile(path)

    def _problem(self, path: Path, error: OSError) -> Problem:
        self.problems += 1
        return Problem(path, error)

    def _below(self, root: Path) -> Iterator[ImageFile | Problem]:
        waiting = [root]
        while waiting:
            folder = waiting.pop()
            try:
                entries = self._disk.run(functools.partial(self._entries, folder))
            except OSError as error:
                yield self._problem(folder, error)
                continue
            folders: list[Path] = []
            for entry in entries:
                path = folder / entry.name
                if self._is_left_out(entry.name, path, root):
                    continue
                for found in self._one(entry, path):
                    if isinstance(found, Path):
                        folders.append(found)
                    else:
                        yield found
            waiting += reversed(folders)

    def _one(self, entry: _Entry, path: Path) -> Iterator[ImageFile | Problem | Path]:
        """Yield what an entry of a folder stands for. A Path is a folder to enter."""
        kind = entry.kind
        suffix = path.suffix.lower()
        if kind == "link":
            try:
                mode = self._disk.run(path.stat).st_mode
            except OSError as error:
                if suffix in SUFFIXES:
                    yield self._problem(path, error)
                else:
                    self.passed[suffix] += 1
                return
            kind = "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "special"
            if kind == "folder" and not self._follow:
                self.links.append(path)
                return
            if kind == "folder":
                self.followed.append(path)
        if kind == "folder":
            yield path
        elif _key(path) in self._named:
            return
        elif suffix in SUFFIXES or (kind == "file" and suffix not in RAW_SUFFIXES and self._has_image(path)):
            # A pipe or a device of such a name is refused by whoever reads it, in words.
            yield self._found(path)
        else:
            self.passed[suffix] += 1

    def _has_image(self, path: Path) -> bool:
        try:
            return is_image(self._disk.run(functools.partial(_head, path)))
        except OSError:
            return False

    def _is_left_out(self, name: str, path: Path, root: Path) -> bool:
        if name.lower() in LEFT_OUT:
            self.left_out[name] += 1
            return True
        if name.startswith("."):
            self.left_out["hidden"] += 1
            return True
        for pattern in self._exclude:
            below = path.relative_to(root).as_posix()
            if fnmatchcase(name, pattern) or fnmatchcase(below, pattern) or fnmatchcase(f"{below}/", pattern):
                self.left_out[f"--exclude {pattern}"] += 1
                return True
        return False

    def _entries(self, folder: Path) -> list[_Entry]:
        """List a folder, sorted. A folder that was entered before gives an empty list."""
        facts = folder.stat()
        if (facts.st_dev, facts.st_ino) in self._entered:
            return []
        self._entered.add((facts.st_dev, facts.st_ino))
        with os.scandir(folder) as entries:
            return sorted((_Entry(entry.name, _kind(entry)) for entry in entries), key=lambda entry: entry.name)


def _key(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100  # links stay as they are


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_symlink():
            return "link"
        if entry.is_dir(follow_symlinks=False):
            return "folder"
        return "file" if entry.is_file(follow_symlinks=False) else "special"
    except OSError:
        # It went away: whoever reads it says so.
        return "file"


def _head(path: Path) -> bytes:
    descriptor = os.open(path, _OPEN)
    try:
        return os.read(descriptor, _HEAD_BYTES)
    finally:
        os.close(descriptor)


def is_image(head: bytes) -> bool:
    """Tell whether a file's first 32 bytes are those of a format that the services read."""
    return (
        head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or head[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}
        # "BM" alone begins many a text.
        or (head[:2] == b"BM" and head[6:10] == b"\0\0\0\0" and len(head) >= 26)
    )


def say_passed_over(walk: Walk, how_to_follow: str) -> None:
    """Say which files of the folders were not taken, by suffix."""
    if walk.passed:
        tally = _tally((suffix or "no suffix", count) for suffix, count in walk.passed.items())
        note(f"passed over, of no format that is read: {tally}")
    if walk.left_out:
        note(f"left out: {_tally(walk.left_out.items())}")
    if walk.links:
        note(f"links to folders that were not followed: {names(walk.links)}; {how_to_follow}")


def names(paths: Sequence[Path | str], most: int = 3) -> str:
    """Return the first of the names, harmless for a terminal, and how many more there are."""
    shown = ", ".join(printable(str(path)) for path in paths[:most])
    return shown if len(paths) <= most else f"{shown} and {len(paths) - most} more"


def _tally(counts: Iterable[tuple[str, int]]) -> str:
    pairs = sorted(counts, key=lambda pair: -pair[1])
    shown = ", ".join(f"{count} {printable(name)}" for name, count in pairs[:SHOWN])
    return shown if len(pairs) <= SHOWN else f"{shown}, {sum(count for _, count in pairs[SHOWN:])} others"


def named_images(paths: Sequence[Path]) -> tuple[list[Path], list[Problem]]:
    """Return all files that the paths mean, and those that cannot be read. Say what is passed over.

    It is meant for short lists, because it walks all paths at once. The command ends where nothing is found at all.
    """
    with Disk() as disk:
        walk = Walk(paths, disk)
        found = list(walk)
    files = [each.path for each in found if isinstance(each, ImageFile)]
    problems = [each for each in found if isinstance(each, Problem)]
    say_passed_over(walk, "name them to enter them")
    if not files:
        for problem in problems:
            if isinstance(problem.error, FileNotFoundError):
                fail(f"{printable(str(problem.path))} does not exist", Exit.USAGE)
            fail(explain(problem.error, printable(str(problem.path))), Exit.USAGE)
        fail("no images there", Exit.USAGE)
    return files, problems
