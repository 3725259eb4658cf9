"""Groups of a search's hits: items whose values of some fields are equal."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeAlias

from search_svc.fusion import RankedItem

MAX_VALUES_BYTES = 4_096
"""Of the values that make one item's group, as JSON. They come with every candidate, of which there may be many."""
# JSON values of one item's fields, in the order of the fields; None where it lacks one, or where
# they are too long, which is a group of its own.
GroupValues: TypeAlias = tuple[object, ...] | None


def group_key(values: tuple[object, ...]) -> Hashable:
    """Return what is equal for equal JSON values: 1 equals 1.0 and not true, a list counts as a whole."""
    return tuple(map(_key, values))


def _key(value: object) -> Hashable:
    match value:
        case bool() | None:
            return value is not None, value, "bool"
        case int() | float():
            return "number", float(value)
        case list():
            return "list", tuple(map(_key, value))
        case dict():
            return "object", frozenset((name, _key(each)) for name, each in value.items())
        case _:
            return "text", value


class Groups:
    """The groups of the hits so far.

    Args:
        size: hits that a group has at most.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._counts: Counter[Hashable] = Counter()
        self._values: dict[Hashable, tuple[object, ...]] = {}

    @property
    def full(self) -> tuple[tuple[object, ...], ...]:
        """Values of the groups that take no more hits, in the order in which they were met."""
        return tuple(values for key, values in self._values.items() if self._counts[key] >= self._size)

    def is_full(self, values: GroupValues) -> bool:
        """Tell whether the group of an item with these values takes no more hits."""
        return values is not None and self._counts[group_key(values)] >= self._size

    def take(self, items: Iterable[RankedItem], groups: Mapping[str, GroupValues]) -> list[RankedItem]:
        """Return those of the items, best first, for which their group has room."""
        taken = []
        for each in items:
            values = groups.get(each.item_id)
            if self.is_full(values):
                continue
            if values is not None:
                key = group_key(values)
                self._counts[key] += 1
                self._values.setdefault(key, values)
            taken.append(each)
        return taken
