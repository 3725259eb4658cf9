"""The page of what files were taken for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lensmesh_cli import folders
from lensmesh_cli.console import note
from lensmesh_cli.disk import Disk
from lensmesh_cli.match.cards import card, cards
from lensmesh_cli.match.show import MatchedFile
from lensmesh_cli.page import ResultPage

MOST_CARDS: Final = 500
"""Cards on a page: some 10 MB of images."""
_ORDER: Final = ("unsure", "no match", "match")
_COUNTED: Final = ("match", "unsure", "no match", "failed")


def write_page(html: Path, files: Sequence[MatchedFile], allowed: Sequence[Path]) -> None:
    """Write the page. What a person should look at comes first; items' images are shown from `allowed` folders."""
    counts = Counter(str(file.found.verdict) if file.found.verdict else "failed" for file in files)
    page = ResultPage(
        "lensmesh match",
        "Left: the image. Right: the entry that it fits best, as far as that is a file of this machine. Lines join "
        "points that agree; the frame is where the image lies in the entry.",
        figures=[(str(counts[name]), name) for name in _COUNTED if counts[name]],
    )
    order = [file for verdict in _ORDER for file in files if str(file.found.verdict) == verdict]
    order += [file for file in files if file.found.verdict is None]
    with Disk() as disk:
        local = folders.LocalImages(allowed, disk)
        shown = [card(file.path.name, _read(file.path, disk), file.found, local.of) for file in order[:MOST_CARDS]]
    page.add_part("What each image shows", "What a person should look at comes first.", cards(shown))
    page.write(html)
    note(f"page: {html}")
    if len(order) > MOST_CARDS:
        note(f"it shows {MOST_CARDS} of {len(order)} images, those that a person should look at first")
    if local.left_out:
        note(
            f"{local.left_out} of the entries' images are not shown: they lie outside the folders that you ingested "
            "from; --images-from FOLDER adds a folder"
        )


def _read(path: Path, disk: Disk) -> bytes | None:
    from functools import partial

    from lensmesh_chassis.files import read_file

    try:
        return disk.run(partial(read_file, path, folders.MAX_IMAGE_BYTES)).data
    except (OSError, ValueError):
        return None
