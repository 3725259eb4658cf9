"""Finds the items whose files are gone: only what this user's ingests wrote, and nobody wrote again since."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lensmesh_cli.disk import Disk
from lensmesh_cli.ingest.journal import Journal, folder, read_journal

if TYPE_CHECKING:
    from lensmesh_cli.ingest.stored import Stored


def recorded(journal: Journal, identity: str) -> dict[str, set[Path]]:
    """Return the files of each item that any of this user's journals tells of, for this collection."""
    found: dict[str, set[Path]] = {}
    journals: list[Path] = []
    with contextlib.suppress(OSError):
        journals = [path for path in folder().glob("*.jsonl") if path != journal.path]
    entries: Iterable[tuple[str, str]] = list(journal.of_this_collection())
    for path in journals:
        with contextlib.suppress(OSError):
            written, _ = read_journal(path)
            entries = [*entries, *((name, one.id) for name, one in written.items() if one.identity == identity)]
    for name, item_id in entries:
        found.setdefault(item_id, set()).add(Path(name))
    return found


def find_gone(
    files: dict[str, set[Path]], roots: Sequence[Path], held: Collection[str], disk: Disk
) -> dict[str, set[Path]]:
    """Return the items, with their files, of which a file below `roots` is gone and no other file is left.

    `held` are items of files that were just ingested. A file is gone where the disk says so; one that cannot be looked
    at is not. Raises OSError where the disk hangs.
    """

    def is_gone(path: Path) -> bool:
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return False

    def below(path: Path) -> bool:
        return any(path == root or root in path.parents for root in roots)

    return {
        item_id: paths
        for item_id, paths in files.items()
        if item_id not in held
        and any(map(below, paths))
        and all(disk.run(lambda path=path: is_gone(path)) for path in paths)  # type: ignore[misc]
    }


async def still_ours(stored: Stored, gone: dict[str, set[Path]]) -> dict[str, set[Path]]:
    """Return those that the mesh still has, with the address of one of their files: nobody wrote them again since."""
    items = await stored.items(list(gone))
    return {
        item_id: paths
        for item_id, paths in gone.items()
        if item_id in items and items[item_id].image_uri in {path.as_uri() for path in paths}
    }
