"""Reading of files, each once and in order, a few ahead of the consumer."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from lensmesh_chassis.files import NotReadableError, TooLargeError, read_file, stat_file, state_of
from lensmesh_cli.ahead import Ahead
from lensmesh_cli.console import Exit, fail
from lensmesh_cli.disk import Disk, Pending, explain
from lensmesh_cli.printable import printable
from lensmesh_cli.sources import SUFFIXES, ImageFile, Problem, RefusedFileError

if TYPE_CHECKING:
    from lensmesh_client import Client

AT_ONCE = 4
# One call's worth of files, held in memory.
PART_FILES, PART_BYTES = 256, 64 << 20
# Where a mesh tells no limit.
MOST_BYTES = 20 << 20


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A file that was read."""

    path: Path
    place: Path
    """The absolute path with links in the folders above it followed. The file is remembered by it."""
    data: bytes
    fingerprint: str
    metadata: dict[str, object] | None
    index: int
    """Its position among the files."""


@dataclass(frozen=True, slots=True)
class Known:
    """A file that the journal knows in its present state, so that it was not read."""

    path: Path
    place: Path
    id: str


@dataclass(frozen=True, slots=True)
class UnreadableFile:
    """A file or folder that cannot be read."""

    path: Path
    reason: str
    message: str
    index: int = 0


Read: TypeAlias = "ReadFile | Known | UnreadableFile"
About: TypeAlias = "Callable[[Path], dict[str, object] | None]"
"""A function that returns the metadata of an image."""
Lookup: TypeAlias = "Callable[[Path, str], str]"
"""A function that returns the id under which a place with this fingerprint is stored, "" for none."""


def fingerprint(state: str, metadata: Mapping[str, object] | None) -> str:
    """Return a digest that changes whenever the file or its metadata does."""
    said = json.dumps(metadata, sort_keys=True, default=str)
    return hashlib.sha256(f"{state} {said}".encode()).hexdigest()[:16]


@functools.lru_cache(4096)
def _real(folder: Path) -> str:
    return os.path.realpath(folder)


def place_of(path: Path) -> Path:
    """Return the absolute path with links in the folders above it followed. The file itself may be a link."""
    return Path(_real(path.parent), path.name)


def root_of(path: Path) -> Path:
    """Return the place of a file. For a folder, return the path that the places of its files begin with."""
    # Thousands of files may be named, on a slow disk: what is called as an image is not looked at.
    if path.suffix.lower() in SUFFIXES or not os.path.isdir(path):  # noqa: PTH112  # it never raises
        return place_of(path)
    return Path(os.path.realpath(path))


def read_files(
    found: Iterable[ImageFile | Problem],
    disk: Disk,
    most_bytes: int,
    about: About = lambda _: None,
    lookup: Lookup = lambda _place, _fingerprint: "",
) -> Iterator[Read]:
    """Yield each file in its order. A file that cannot be read is yielded as an `UnreadableFile`."""

    def read(path: Path, index: int) -> Read:
        facts = stat_file(path, most_bytes)
        place, said = place_of(path), about(path)
        if stored := lookup(place, fingerprint(state_of(facts), said)):
            return Known(path, place, stored)
        content = read_file(path, most_bytes)
        return ReadFile(path, place, content.data, fingerprint(content.state, said), said, index)

    waiting: deque[tuple[Path, int, Pending[Read] | OSError]] = deque()
    for index, each in enumerate(found):
        if isinstance(each, Problem):
            waiting.append((each.path, index, each.error))
        else:
            waiting.append((each.path, index, disk.start(functools.partial(read, each.path, index))))
        if len(waiting) >= AT_ONCE:
            yield _settled(*waiting.popleft())
    while waiting:
        yield _settled(*waiting.popleft())


def unreadable(problem: Problem) -> UnreadableFile:
    """Return why a file or folder is not read."""
    settled = _settled(problem.path, 0, problem.error)
    assert isinstance(settled, UnreadableFile)
    return settled


def _settled(path: Path, index: int, pending: Pending[Read] | OSError) -> Read:
    try:
        if isinstance(pending, OSError):
            raise pending
        return pending.result()
    except TooLargeError as error:
        return UnreadableFile(path, "IMAGE_TOO_LARGE", str(error), index)
    except NotReadableError as error:
        return UnreadableFile(path, "IMAGE_MISSING", str(error), index)
    except RefusedFileError as error:
        return UnreadableFile(path, error.reason, str(error), index)
    except OSError as error:
        error.filename = None
        return UnreadableFile(path, "IMAGE_MISSING", f"it cannot be read: {explain(error)}", index)
    except ValueError as error:
        # A name with a NUL, for instance.
        return UnreadableFile(path, "IMAGE_MISSING", f"it cannot be read: {error}", index)


async def most_bytes_of(client: Client) -> int:
    """Return how large a file the mesh accepts, in bytes."""
    limits = (await client.status()).limits
    return limits.max_image_bytes or limits.max_message_bytes or MOST_BYTES


async def read_named(client: Client, path: Path, option: str) -> bytes:
    """Read the one image that an option names. End the command where it cannot be read or is too large."""
    most = await most_bytes_of(client)
    with Disk() as disk, closing(Ahead(read_files([ImageFile(path)], disk, most), 1)) as ahead:
        async for read in ahead:
            if isinstance(read, ReadFile):
                return read.data
            if isinstance(read, UnreadableFile):
                fail(f"{option}: {printable(str(path))}: {read.message}", Exit.USAGE)
    raise AssertionError("a file is read or refused")


async def contents(client: Client, files: Sequence[Path]) -> AsyncIterator[tuple[list[ReadFile], list[UnreadableFile]]]:
    """Yield the files' contents in parts that fit into memory. Each part comes with the files that cannot be read."""
    part: list[ReadFile] = []
    refused: list[UnreadableFile] = []
    size = 0
    with Disk() as disk:
        reads = read_files(map(ImageFile, files), disk, await most_bytes_of(client))
        with closing(Ahead(reads, AT_ONCE)) as ahead:
            async for read in ahead:
                if isinstance(read, ReadFile):
                    part.append(read)
                    size += len(read.data)
                elif isinstance(read, UnreadableFile):
                    refused.append(read)
                if len(part) >= PART_FILES or size >= PART_BYTES:
                    yield part, refused
                    part, refused, size = [], [], 0
    if part or refused:
        yield part, refused
