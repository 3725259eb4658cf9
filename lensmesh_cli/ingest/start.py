"""What an ingest begins with: paths that are there, and a journal of what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lensmesh_cli.console import Exit, fail, note
from lensmesh_cli.disk import Disk, explain
from lensmesh_cli.folders import remember
from lensmesh_cli.ingest.journal import Journal, default_path
from lensmesh_cli.printable import printable
from lensmesh_cli.reading import root_of


def check_any_there(paths: Sequence[Path], disk: Disk) -> None:
    """End the command where none of the named paths exists. Any other fault of a path is reported with that path."""
    for path in paths:
        try:
            disk.run(path.lstat)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            continue
        except OSError:
            return
        return
    fail(f"{printable(str(paths[0]))} does not exist", Exit.USAGE)


def places_of(paths: Sequence[Path], disk: Disk, target: str) -> list[Path]:
    """Return the absolute places of the named paths, and note that this user ingested from there."""
    try:
        places = disk.run(lambda: [root_of(path) for path in paths])
    except OSError as error:
        fail(explain(error))
    try:
        remember(target, places)
    except OSError as error:
        note(f"the folders are not remembered for `search --html`: {explain(error)}")
    return places


def open_journal(named: Path | None, target: str, collection: str, places: Sequence[Path], *, fresh: bool) -> Journal:
    """Open the journal of a run. End the command where the one that is named cannot be kept."""
    try:
        where = named or default_path(target, collection, places)
        return Journal(where, note, keep=named is not None, fresh=fresh)
    except OSError as error:
        fail(f"--journal: {explain(error, str(named or 'the state folder'))}", Exit.USAGE)
