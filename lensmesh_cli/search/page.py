"""The page of what a search found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lensmesh_cli import folders
from lensmesh_cli.cards import ShownQuery
from lensmesh_cli.console import note
from lensmesh_cli.disk import Disk
from lensmesh_cli.page import ResultPage, Section
from lensmesh_cli.search.asked import AskedQuery

if TYPE_CHECKING:
    from lensmesh_client import SearchResult


def write_page(
    html: Path,
    queries: Sequence[AskedQuery],
    images: Mapping[str, bytes],
    found: SearchResult,
    allowed: Sequence[Path],
    *,
    group_by: Sequence[str] = (),
) -> None:
    """Write the page. `images` are those of queries, by name; hits' images are shown from `allowed` folders."""
    asked = ", ".join(query.title for query in queries)
    one = len(queries) == 1
    several = [ShownQuery(each.name, each.weighed_words, each.weight < 0, images.get(each.name)) for each in queries]
    page = ResultPage("lensmesh search", f"{len(found.hits)} images for {asked}")
    section = Section(
        asked if one else f"{len(queries)} queries, one ranking",
        found.hits,
        "" if one else "Bars: each query's own score, from the lowest to the highest one shown here.",
        image=images.get(queries[0].name) if one else None,
        queries=() if one else several,
        groups=found.groups if group_by else (),
        group_by=group_by,
    )
    with Disk() as disk:
        local = folders.LocalImages(allowed, disk)
        page.add(section, local.of)
    page.write(html)
    note(f"page: {html}")
    if local.left_out:
        note(
            f"{local.left_out} of its images are not shown: they lie outside the folders that you ingested from; "
            "--images-from FOLDER adds a folder"
        )
