"""A folder tree as Arthur image recognition has it: artist/entry/view.jpg."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lensmesh_chassis.errors import InvalidInput
from lensmesh_cli.disk import Disk
from lensmesh_cli.sources import ImageFile, Problem, RefusedFileError, Walk
from lensmesh_client.arthur import ViewNames

_DEPTH = 3
LAYOUT = "artist/entry/view.jpg"


class ArthurWalk(Walk):
    """A walk through such a tree. A file that is no view, or the second one of its names, is told and not taken."""

    def __init__(self, root: Path, disk: Disk, *, follow: bool = False, exclude: Sequence[str] = ()) -> None:
        super().__init__([root], disk, follow=follow, exclude=exclude)
        self._root = root
        self._taken_by: dict[str, Path] = {}
        self.artists: set[str] = set()
        self.entries: set[tuple[str, str]] = set()

    def names(self, path: Path) -> ViewNames:
        """Return the names of a file of the tree. Raises RefusedFileError for one that is not at its depth."""
        parts = path.relative_to(self._root).parts
        if len(parts) != _DEPTH:
            raise RefusedFileError(
                "ITEM_ID_INVALID",
                f"it is not at {LAYOUT} below the folder, and its names are not guessed: move it, or leave it out by "
                "--exclude",
            )
        return ViewNames(parts[0], parts[1], path.stem)

    def item_id(self, path: Path) -> str:
        """Return the id of a file's item."""
        return self.names(path).item_id()

    def metadata(self, path: Path) -> dict[str, object]:
        """Return the metadata of a file."""
        return dict(self.names(path).metadata)

    def _found(self, path: Path) -> ImageFile | Problem:
        try:
            names = self.names(path)
            item_id = names.item_id()
        except RefusedFileError as error:
            return self._problem(path, error)
        except InvalidInput as error:
            return self._problem(path, RefusedFileError(error.reason, f"{error.message}: rename it"))
        if (other := self._taken_by.get(item_id)) is not None:
            why = f"{other.name} has the same names, and one view is one file: rename one of them"
            return self._problem(path, RefusedFileError("ITEM_ID_DUPLICATE", why))
        self._taken_by[item_id] = path
        self.artists.add(names.artist)
        self.entries.add((names.artist, names.entry))
        return super()._found(path)
