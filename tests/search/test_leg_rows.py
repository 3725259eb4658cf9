"""Rows of a step in PostgreSQL: many are taken apart beside the event loop."""

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, cast, overload

import pytest

from search_svc.candidates import FoundItem
from search_svc.legs import GroupBy
from search_svc.model import Collection
from search_svc.postgres.legs import LegSource
from search_svc.ranking import Step
from search_svc.threads import Threads
from tests.search.rankings import DIMENSION, Asked, definition, query


class Rows(Sequence[tuple[Any, ...]]):
    """Rows that note in which thread they are looked at."""

    def __init__(self, count: int) -> None:
        self._rows = [(0, n, f"i{n}", 0.5, f"[{n}]" if n else "[null]") for n in range(count)]
        self.threads: set[int] = set()

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> tuple[Any, ...]: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[tuple[Any, ...]]: ...
    def __getitem__(self, place: int | slice) -> Any:
        return self._rows[place]

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        self.threads.add(threading.get_ident())
        return iter(self._rows)


class Connection:
    """A connection that answers every statement with the same rows."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def fetch(self, *_: object) -> Rows:
        return self._rows


@pytest.mark.parametrize(("count", "beside"), [(3, False), (10_000, True)])
async def test_many_rows_are_taken_apart_beside_the_loop(count: int, beside: bool) -> None:
    rows, threads = Rows(count), Threads()
    collection = Collection("1", definition(), datetime.now(UTC), "uid")
    asked = query(collection, [Asked("image", [1.0] * DIMENSION)], None, group_by=GroupBy((("n",),)))
    source = LegSource(cast("Any", Connection(rows)), collection, asked, threads)
    legs = [await source.resolve(leg) for leg in asked.legs]
    found = await source.find(legs, Step(count, frozenset()))
    threads.stop()
    assert found.legs == [[FoundItem(n, f"i{n}", 0.5) for n in range(count)]]
    assert found.groups == {f"i{n}": (n,) if n else None for n in range(count)}
    assert (threading.get_ident() not in rows.threads) is beside
