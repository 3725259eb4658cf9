"""Groups of near-duplicates with what is known of their images now: as text, as JSON, and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from lensmesh_cli import folders
from lensmesh_cli.console import note
from lensmesh_cli.disk import Disk
from lensmesh_cli.hits import caption_of, name_of
from lensmesh_cli.page import ResultPage, Section
from lensmesh_cli.printable import printable

if TYPE_CHECKING:
    from lensmesh_client import Client, DuplicateGroup, DuplicateItem, Hit, Item

# Of a group that is shown; the others are counted.
SHOWN_ITEMS = 20
_BITS = 256


@dataclass
class Known:
    """Items as they are now, by id: those of groups that are shown, as far as they are there."""

    items: dict[str, Item] = field(default_factory=dict)

    async def look_up(self, client: Client, collection: str, groups: Sequence[DuplicateGroup]) -> None:
        """Read the items that are shown of groups. A collection that is gone has none."""
        from lensmesh_client import NotFound

        ids = [item.id for group in groups for item in group.items[:SHOWN_ITEMS]]
        most = (await client.info("search")).limits.max_items or len(ids)
        for begin in range(0, len(ids), most):
            try:
                found = await client.items.get(ids[begin : begin + most], collection=collection)
            except NotFound:
                return
            self.items.update({item.id: item for item in found.items})

    def hit(self, duplicate: DuplicateItem) -> Hit:
        """Return an item as a search by hash would find it from the group's first one."""
        from lensmesh_client import Hit

        item = self.items.get(duplicate.id)
        return Hit(
            id=duplicate.id,
            score=1 - duplicate.distance / _BITS,
            caption=None if item is None else item.caption,
            metadata={} if item is None else dict(item.metadata),
            image_uri="" if item is None else item.image_uri,
            content_digest="" if item is None else item.content_digest,
        )

    def remark(self, duplicate: DuplicateItem) -> str:
        """Return a word about an item that is worth knowing, "" for none."""
        if duplicate.id not in self.items:
            return "gone by now"
        return "the same file" if duplicate.same_content else ""


def table(groups: Sequence[DuplicateGroup], known: Known) -> Table:
    """Return a table with a row for each item, the one that stands for its group first."""
    rows = Table(box=None, header_style="bold", pad_edge=False)
    rows.add_column("group", justify="right", style="dim")
    rows.add_column("bits", justify="right", style="cyan")
    for name in ("item", "image", "caption", ""):
        rows.add_column(name, overflow="fold")
    for group in groups:
        for place, item in enumerate(group.items[:SHOWN_ITEMS]):
            hit = known.hit(item)
            remark = known.remark(item) if place or item.id not in known.items else ""
            texts = (printable(item.id), name_of(hit) if hit.image_uri else "", caption_of(hit), remark)
            number = "" if place else str(group.index + 1)
            rows.add_row(number, "" if not place else str(item.distance), *(Text(text) for text in texts))
        if len(group.items) > SHOWN_ITEMS:
            rows.add_row("", "", Text(f"and {len(group.items) - SHOWN_ITEMS:,} more"))
    return rows


def as_json(group: DuplicateGroup) -> dict[str, object]:
    """Return a group for programs."""
    return {
        "index": group.index,
        "items": [
            {
                "id": item.id,
                "distance": item.distance,
                "quality": item.quality,
                "same_content": item.same_content,
                "create_time": item.create_time.isoformat(),
            }
            for item in group.items
        ],
    }


def write_page(
    html: Path,
    collection: str,
    groups: Sequence[DuplicateGroup],
    known: Known,
    counts: Mapping[str, int],
    allowed: Sequence[Path],
) -> None:
    """Write the page of groups. Images are shown from `allowed` folders."""
    page = ResultPage(
        "lensmesh duplicates",
        f"Images of {collection} that look the same, largest groups first. The first of a group stands for the others.",
        figures=[
            (f"{counts['group_count']:,}", "groups"),
            (f"{counts['item_count']:,}", "images in them"),
            (f"{counts['item_count'] - counts['group_count']:,}", "could go"),
            (f"{counts['compared_count']:,}", "images compared"),
        ],
        metadata=False,
    )
    with Disk() as disk:
        local = folders.LocalImages(allowed, disk)
        for group in groups:
            page.add(_section(group, known), local.of)
    page.write(html)
    note(f"page: {html}")
    if local.left_out:
        note(
            f"{local.left_out} of its images are not shown: they lie outside the folders that you ingested from; "
            "--images-from FOLDER adds a folder"
        )


def _section(group: DuplicateGroup, known: Known) -> Section:
    shown = group.items[:SHOWN_ITEMS]
    farthest = max(item.distance for item in group.items)
    more = f"; {len(group.items) - len(shown):,} more are not shown" if len(shown) < len(group.items) else ""
    note_ = f"up to {farthest} of {_BITS} bits from {group.items[0].id}; scores are 1 - bits / {_BITS}{more}"
    return Section(f"{len(group.items):,} images", [known.hit(item) for item in shown], note_)
