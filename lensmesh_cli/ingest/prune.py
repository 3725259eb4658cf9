"""Removal of items whose files are gone.

An item goes only if this user's ingests wrote it, and nobody wrote it since.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lensmesh_cli.console import note
from lensmesh_cli.disk import Disk, explain
from lensmesh_cli.ingest.journal import Journal, folder, read_journal
from lensmesh_cli.printable import printable
from lensmesh_cli.reading import root_of

if TYPE_CHECKING:
    from lensmesh_cli.ingest.run import FolderIngest
    from lensmesh_cli.ingest.stored import Stored
    from lensmesh_cli.options import Connect
    from lensmesh_cli.sources import Walk
    from lensmesh_client import Client

SHOWN_GONE = 20


@dataclass(frozen=True, slots=True)
class RemovedItem:
    """An item to remove: the files that it was made of, and the time of its last write, as the mesh told it."""

    paths: frozenset[Path]
    update_time: str
    """The time of its last write, in RFC 3339."""


def remove_gone(
    connect: Connect,
    collection: str,
    run: FolderIngest,
    walk: Walk,
    journal: Journal,
    places: Sequence[Path],
    disk: Disk,
    *,
    yes: bool,
) -> int:
    """Remove the items of deleted files, after the user agreed. Return how many items were removed."""
    from lensmesh_cli.ingest.stored import Stored

    if walk.problems or not walk.images:
        why = "no image was found: is the disk mounted?" if not walk.images else "not every folder could be read"
        note(f"nothing is removed: {why}")
        return 0
    try:
        roots = [*places, *disk.run(lambda: [root_of(link) for link in walk.followed])]
        gone = find_gone(recorded(journal, run.identity), roots, run.ids, disk)
    except OSError as error:
        note(f"nothing is removed: {explain(error)}")
        return 0

    async def ask(client: Client) -> dict[str, RemovedItem]:
        connection = connect.connection()
        try:
            return await still_ours(Stored(connection, collection), gone)
        finally:
            await connection.close()

    async def remove(client: Client) -> tuple[int, set[str]]:
        connection = connect.connection()
        try:
            stored = Stored(connection, collection)
            removed = await stored.delete_unchanged({item_id: one.update_time for item_id, one in ours.items()})
            return removed, set(await stored.items(list(ours)) if removed < len(ours) else ())
        finally:
            await connection.close()

    ours = connect.run(ask) if gone else {}
    if not ours:
        note("nothing to remove: every file that your ingests sent from there is there")
        return 0
    if not _agreed(ours, yes=yes):
        return 0
    removed, changed = connect.run(remove)
    journal.drop([str(path) for item_id, one in sorted(ours.items()) if item_id not in changed for path in one.paths])
    note(f"{removed} items removed")
    if changed:
        note(f"{len(changed)} items stay: somebody wrote them again meanwhile")
    return removed


def _agreed(ours: Mapping[str, RemovedItem], *, yes: bool) -> bool:
    """Show what is to be removed, and ask."""
    paths = sorted(path for one in ours.values() for path in one.paths)
    for path in paths[:SHOWN_GONE]:
        note(f"gone: {printable(str(path))}")
    if len(paths) > SHOWN_GONE:
        note(f"... and {len(paths) - SHOWN_GONE} more")
    if yes:
        return True
    if not sys.stdin.isatty():
        note(f"{len(ours)} items would be removed; --yes removes them")
        return False
    return typer.confirm(f"remove these {len(ours)} items?", err=True)


def recorded(journal: Journal, identity: str) -> dict[str, set[Path]]:
    """Return the files of each item of this collection that any of this user's journals names."""
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

    `held` are items of files that were just ingested. A file is gone only if the disk says so; one that cannot be
    looked at is not. Raises OSError where the disk hangs.
    """

    def below(path: Path) -> bool:
        return any(path == root or root in path.parents for root in roots)

    return {
        item_id: paths
        for item_id, paths in files.items()
        if item_id not in held
        and any(map(below, paths))
        and all(disk.run(functools.partial(_is_gone, path)) for path in paths)
    }


def _is_gone(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


async def still_ours(stored: Stored, gone: Mapping[str, set[Path]]) -> dict[str, RemovedItem]:
    """Return the items that the mesh still has with the address of one of their files: nobody wrote them since."""
    items = await stored.items(list(gone))
    return {
        item_id: RemovedItem(frozenset(paths), items[item_id].update_time.ToJsonString())
        for item_id, paths in gone.items()
        if item_id in items and items[item_id].image_uri in {path.as_uri() for path in paths}
    }
