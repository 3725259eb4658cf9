"""The one order in which the hits of a search come, whatever page of it is asked for.

An approximate index returns another set of items when it is asked for more of them. So pages that are cut out of
answers of different sizes would repeat hits and miss others. Here the index is only ever asked for fixed numbers of
hits. What it returns for the smallest number comes first. What the next larger number adds comes behind that. At last,
where that is not enough, comes everything that was compared exactly. So as long as nothing is written, the hits between
two places are the same for every page.
"""

from collections.abc import Awaitable, Sequence
from typing import NamedTuple, Protocol

SIZES = (20, 200, 2000)


class FoundItem(NamedTuple):
    """An item that was found. Its score is rounded to float32: scores that are equal then are a tie."""

    key: int
    """The store's own, 0 where it has none."""
    item_id: str
    score: float

    @property
    def order(self) -> tuple[float, bytes]:
        """The key to sort by: best first, equal scores by id."""
        return -self.score, self.item_id.encode()


class Nearest(Protocol):
    """A search for up to `count` of the nearest items."""

    def __call__(self, count: int) -> Awaitable[Sequence[FoundItem]]: ...


async def first(wanted: int, *, by_index: Nearest | None, exactly: Nearest) -> list[FoundItem]:
    """Return the candidates of the first `wanted` places, in their order. Fewer mean that there are no more.

    `by_index` may miss items; None means that every item has to be compared. `exactly` sees every item, best first.
    """
    places: dict[str, FoundItem] = {}

    def add(found: Sequence[FoundItem]) -> None:
        for candidate in sorted(found, key=lambda each: each.order):
            places.setdefault(candidate.item_id, candidate)

    for size in SIZES if by_index is not None else ():
        found = await by_index(size)  # type: ignore[misc]  # not None here
        add(found)
        if len(places) >= wanted or len(found) < size:
            # Either it is enough; or there are no more, or the index gave up: only a look at each item tells.
            break
    if len(places) < wanted:
        add(await exactly(wanted))
    return list(places.values())[:wanted]


def page(places: Sequence[FoundItem], offset: int, min_score: float | None) -> list[FoundItem]:
    """Return the candidates from `offset` on that have at least `min_score`, best first, equal scores by id."""
    least = float("-inf") if min_score is None else min_score
    return sorted((each for each in places[offset:] if each.score >= least), key=lambda each: each.order)
