"""Groups of items that show images that look the same."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search_svc.duplicates.items import NO_QUALITY, CollectedItems, ItemColumns, time_at
from search_svc.duplicates.looks import ImagesOfItems, images_of
from search_svc.duplicates.stars import Comparison


class Duplicate(NamedTuple):
    """An item of a group."""

    id: str
    distance: int
    """From the group's representative, in bits."""
    quality: int | None
    """None without a hash."""
    same_content: bool
    """True where it has the representative's digest."""
    create_time: datetime


class GroupPart(NamedTuple):
    """Some items of a group, one behind the other."""

    number: int
    item_count: int
    """Of the whole group."""
    first_item: int
    """Place of the first of `items` in the group."""
    items: tuple[Duplicate, ...]


@dataclass(frozen=True)
class _Groups:
    """Places of items, group by group."""

    items: NDArray[np.int64]
    begins: NDArray[np.int64]
    """Of each group, and the end of the last one."""


class GroupSearch:
    """The work on items that are collected, in steps of some ten milliseconds, to be done in a thread.

    Args:
        collected: the items; none is added any more.
        max_distance: in bits, up to 31.
    """

    def __init__(self, collected: CollectedItems, max_distance: int) -> None:
        self._collected = collected
        self._max_distance = max_distance
        self._columns: ItemColumns | None = None
        self._groups = _Groups(np.empty(0, dtype=np.int64), np.zeros(1, dtype=np.int64))
        self._distances: NDArray[np.uint8] = np.empty(0, dtype=np.uint8)

    def steps(self) -> Iterator[float]:
        """Do the work. Yield which share is done, 0 to 1."""
        self._columns = columns = self._collected.sorted()
        yield 0.0
        images = images_of(columns)
        yield 0.0
        comparison = Comparison(images.looks, self._max_distance)
        yield from comparison.steps()
        self._group(columns, images, comparison)

    @property
    def group_count(self) -> int:
        """Number of groups."""
        return len(self._groups.begins) - 1

    @property
    def item_count(self) -> int:
        """Number of items in groups."""
        return len(self._groups.items)

    def parts(self, most: int) -> Iterator[list[GroupPart]]:
        """Yield all groups, largest first, in lists of at most so many items. A larger group is cut."""
        begun: list[GroupPart] = []
        room = most
        for index in range(self.group_count):
            begin, end = int(self._groups.begins[index]), int(self._groups.begins[index + 1])
            place = begin
            while place < end:
                until = min(end, place + room)
                begun.append(GroupPart(index, end - begin, place - begin, self._items(begin, place, until)))
                room -= until - place
                place = until
                if not room:
                    yield begun
                    begun, room = [], most
        if begun:
            yield begun

    def _items(self, begin: int, first: int, end: int) -> tuple[Duplicate, ...]:
        columns = self._columns
        assert columns is not None
        first_place = self._groups.items[begin]
        places = self._groups.items[first:end]
        same = (columns.digests[places] == columns.digests[first_place]).all(axis=1)
        same &= columns.digested[places] & columns.digested[first_place]
        return tuple(
            Duplicate(
                self._collected.id_at(place),
                int(self._distances[place]),
                None if columns.qualities[place] == NO_QUALITY else int(columns.qualities[place]),
                bool(is_same),
                time_at(columns.times[place]),
            )
            for place, is_same in zip(places, same, strict=True)
        )

    def _group(self, columns: ItemColumns, images: ImagesOfItems, comparison: "Comparison") -> None:
        count = len(images.first)
        representative, distance = np.arange(count), np.zeros(count, dtype=np.uint8)
        representative[: images.looks.count] = comparison.representative
        distance[: images.looks.count] = comparison.distance
        stands_for = images.first[representative[images.of_item]]
        self._distances = distance[images.of_item]
        # By group, distance and place: the representative is the first of those at no distance.
        order = np.lexsort((np.arange(len(stands_for)), self._distances, stands_for))
        theirs = stands_for[order]
        begins = np.flatnonzero(np.concatenate(([True], theirs[1:] != theirs[:-1]))) if len(theirs) else theirs
        sizes = np.diff(np.append(begins, len(theirs)))
        kept = np.flatnonzero(sizes > 1)
        # Groups stand in the order of their representatives already.
        kept = kept[np.argsort(-sizes[kept], kind="stable")]
        ends = np.cumsum(sizes[kept])
        starts = ends - sizes[kept]
        places = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(begins[kept] - starts, sizes[kept])
        self._groups = _Groups(order[places], np.append(starts, len(places)))
