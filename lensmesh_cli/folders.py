"""The folders that this user ingested from, by mesh. Only images below them are read.

An item's `image_uri` was written by whoever ingested it, perhaps by a stranger: it may name any file of this machine.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urlsplit

from lensmesh_chassis.files import read_file
from lensmesh_cli.disk import Disk
from lensmesh_cli.options import state_folder

if TYPE_CHECKING:
    from lensmesh_client import Hit, Item

MAX_IMAGE_BYTES = 64 << 20
FILE = "ingested-from.jsonl"


def remember(target: str, sources: Iterable[Path]) -> None:
    """Note that these files and folders were ingested into that mesh. Raises OSError."""
    noted = known(target)
    new = [str(path) for path in dict.fromkeys(sources) if path not in noted]
    if not new:
        return
    file = state_folder() / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        lines.write("".join(json.dumps({"target": target, "path": path}) + "\n" for path in new))


def known(target: str) -> frozenset[Path]:
    """Return the files and folders that were ingested into that mesh, as far as this user's notes can be read."""
    found: set[Path] = set()
    with contextlib.suppress(OSError, RuntimeError):
        for line in (state_folder() / FILE).read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                if entry["target"] == target:
                    found.add(Path(entry["path"]))
    return frozenset(found)


class LocalImages:
    """The local images of hits that lie below the given files and folders, links followed. All others are left out."""

    def __init__(self, allowed: Iterable[Path], disk: Disk) -> None:
        self._disk = disk
        self._allowed = [path for each in allowed if (path := self._resolved(each)) is not None]
        self.left_out = 0
        """Hits whose address is a local file elsewhere."""

    def of(self, hit: Hit | Item) -> bytes | None:
        """Return the content of the hit's file.

        Return None where the file is none of these, has more than MAX_IMAGE_BYTES, or cannot be read in time.
        """
        named = local_path(hit.image_uri)
        if named is None:
            return None
        path = self._resolved(named)
        if path is None:
            return None
        if not any(path == allowed or allowed in path.parents for allowed in self._allowed):
            self.left_out += 1
            return None
        try:
            return self._disk.run(functools.partial(read_file, path, MAX_IMAGE_BYTES)).data
        except (OSError, ValueError):
            return None

    def _resolved(self, path: Path) -> Path | None:
        try:
            return self._disk.run(lambda: path.expanduser().resolve(strict=True))
        except (OSError, ValueError, RuntimeError):
            return None


def local_path(uri: str) -> Path | None:
    """Return the path of a `file:` URI of this machine. Return None for any other text."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
        return None
    return Path(os.fsdecode(unquote_to_bytes(parts.path)))
