"""Matches of files, printed: a table for people, lines of JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from lensmesh_cli.match.words import STYLES, entry_of, rests_on, verdict_of
from lensmesh_cli.printable import printable

if TYPE_CHECKING:
    from lensmesh_client import MatchCandidate, MatchResult


@dataclass(frozen=True, slots=True, eq=False)
class MatchedFile:
    """A file, and the entry that it shows."""

    path: Path
    found: MatchResult


def named(file: MatchedFile) -> MatchedFile:
    """Return the file by its name alone, for where its folder is of no interest."""
    return MatchedFile(Path(file.path.name), file.found)


def table(files: Sequence[MatchedFile], title: str = "") -> Table:
    """Return a table of file, verdict, entry, confidence and what that rests on. Alternatives stand below."""
    rows = Table(box=None, header_style="bold", pad_edge=False, title=title or None, title_justify="left")
    rows.add_column("image", overflow="fold")
    rows.add_column("verdict", no_wrap=True)
    rows.add_column("entry", overflow="fold")
    rows.add_column("confidence", justify="right", style="cyan")
    rows.add_column("rests on", style="dim", overflow="fold")
    for file in files:
        found = file.found
        shown = Text(verdict_of(found), STYLES.get(str(found.verdict), ""))
        rows.add_row(Text(printable(str(file.path))), shown, *_cells(found.best, none=found.verdict == "no match"))
        for other in found.alternatives:
            rows.add_row("", Text("else", "dim"), *_cells(other, none=False))
    return rows


def _cells(candidate: MatchCandidate | None, *, none: bool) -> list[Text]:
    """Return entry, confidence and basis. Of an image that shows none, the nearest entry is named as that."""
    if candidate is None:
        return [Text("nothing there to be found", "dim"), Text("-"), Text("")]
    name = Text(f"nearest: {entry_of(candidate)}", "dim") if none else Text(entry_of(candidate))
    return [name, Text(f"{candidate.confidence:.2f}"), Text(rests_on(candidate))]


def as_json(file: MatchedFile) -> dict[str, object]:
    """Return it for programs."""
    found = file.found
    return {
        "path": str(file.path),
        "verdict": None if found.verdict is None else str(found.verdict),
        "ambiguous": found.ambiguous,
        "best": None if found.best is None else _candidate(found.best),
        "alternatives": [_candidate(each) for each in found.alternatives],
        "error": None if found.error is None else {"reason": found.error.reason, "message": found.error.message},
    }


def _candidate(candidate: MatchCandidate) -> dict[str, object]:
    item, geometry = candidate.item, candidate.geometry
    return {
        "id": candidate.id,
        "entry": None if candidate.entry is None else [*candidate.entry],
        "confidence": candidate.confidence,
        "basis": None if candidate.basis is None else str(candidate.basis),
        "cosine": candidate.cosine,
        "hash_distance": candidate.hash_distance,
        "geometry": None
        if geometry is None
        else {
            "inlier_count": geometry.inlier_count,
            "tentative_count": geometry.tentative_count,
            "place_count": geometry.place_count,
            "query_point_count": geometry.query_point_count,
            "item_point_count": geometry.item_point_count,
            "homography": [*geometry.homography],
        },
        "image_uri": item.image_uri,
        "caption": item.caption.text if item.caption else None,
        "metadata": item.metadata,
    }
