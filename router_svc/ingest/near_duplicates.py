"""Near-duplicates among the images of one stream, and of what the store has.

Images of a stream are encoded and written side by side. Whether one is a near-duplicate is decided in the order in
which they were read: each waits until those before it are decided. It is compared with what the store has, and with
those of this stream that are on their way there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from lensmesh.common.v1 import common_pb2
from router_svc.ingest.near_lookup import NearItem, NearQuery


@dataclass(eq=False, slots=True)
class _OnItsWay:
    """An item that will be stored: near-duplicates behind it are compared with it before the store has it."""

    item_id: str
    hashes: tuple[int, ...]
    stored: asyncio.Future[bool]
    ended: int | None = None


class NearOrder:
    """The order and the items on their way of one call or stream."""

    def __init__(self, max_distance: int) -> None:
        self._max_distance = max_distance
        self._last: asyncio.Future[None] | None = None
        self._on_their_way: list[_OnItsWay] = []
        # A count of ended writes. A look-up that began behind a write sees it in the store.
        self._clock = 0
        self._began: dict[NearTurn, int] = {}

    def enter(self) -> "NearTurn":
        """Give the next item its turn. To be called in the order of the stream."""
        turn = NearTurn(self, self._last)
        self._last = turn.decided
        return turn

    async def _nearest(
        self, turn: "NearTurn", query: NearQuery, look: Callable[[], Awaitable[NearItem | None]]
    ) -> NearItem | None:
        self._began[turn] = self._clock
        try:
            stored = await look()
            await turn.come()
            while True:
                found = self._among(query)
                if found is None or (stored is not None and stored < found[0]):
                    return stored
                # What is said to be there has to be: an item that could not be stored is nobody's original.
                if await asyncio.shield(found[1].stored):
                    return found[0]
        finally:
            del self._began[turn]

    def _among(self, query: NearQuery) -> tuple[NearItem, _OnItsWay] | None:
        """Return the nearest item on its way to the store."""
        hashes = _hashes(query.hash)
        near = [
            (NearItem(distance, one.item_id), one)
            for one in self._on_their_way
            if one.item_id != query.item_id and (distance := _distance(hashes, one.hashes)) <= self._max_distance
        ]
        return min(near, key=lambda pair: pair[0], default=None)

    def _accept(self, item_id: str, told: common_pb2.PerceptualHash) -> _OnItsWay:
        one = _OnItsWay(item_id, _hashes(told), asyncio.get_running_loop().create_future())
        self._on_their_way.append(one)
        return one

    def _end(self, one: _OnItsWay, *, stored: bool) -> None:
        self._clock += 1
        one.ended = self._clock
        one.stored.set_result(stored)
        least = min(self._began.values(), default=self._clock)
        self._on_their_way = [
            other
            for other in self._on_their_way
            if (other is not one or stored) and (other.ended is None or other.ended > least)
        ]


@dataclass(eq=False, slots=True)
class NearTurn:
    """An item's place in the order. Leave it, or those behind it wait."""

    _all: NearOrder
    _before: asyncio.Future[None] | None
    decided: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    _accepted: _OnItsWay | None = None

    async def come(self) -> None:
        """Return when those before it are decided."""
        if self._before is not None:
            await asyncio.shield(self._before)

    async def nearest(self, query: NearQuery, look: Callable[[], Awaitable[NearItem | None]]) -> NearItem | None:
        """Return the nearest other item, as `look` finds it in the store or as it comes before in this stream."""
        return await self._all._nearest(self, query, look)

    async def accept(self, query: NearQuery) -> None:
        """Say that the item will be stored."""
        await self.come()
        self._accepted = self._all._accept(query.item_id, query.hash)
        self.pass_on()

    def pass_on(self) -> None:
        """Say that nothing more is decided about the item. Those behind it have their turn once those before it had."""
        if self._before is None or self._before.done():
            self._decide()
        else:
            self._before.add_done_callback(self._decide)

    def _decide(self, _: object = None) -> None:
        if not self.decided.done():
            self.decided.set_result(None)

    def leave(self) -> None:
        """Say that nothing more comes of the item: what was accepted and is not stored never will be."""
        self.pass_on()
        self.end(stored=False)

    def end(self, *, stored: bool) -> None:
        """Say what became of an item that was accepted."""
        if self._accepted is not None:
            self._all._end(self._accepted, stored=stored)
            self._accepted = None


def _hashes(told: common_pb2.PerceptualHash) -> tuple[int, ...]:
    return tuple(int.from_bytes(each, "big") for each in (told.hash, told.unframed) if each)


def _distance(one: Sequence[int], other: Sequence[int]) -> int:
    return min((mine ^ its).bit_count() for mine in one for its in other)
