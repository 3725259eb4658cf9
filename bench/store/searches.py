"""The kinds of searches that a store is measured by."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.store.drawn import GROUPS, HITS, OFTEN, RARE, SELDOM, SERIES, Vectors
from bench.store.filling import PATIENCE_S
from search_svc.filters import Equals, Filter
from search_svc.legs import Diversity, Fusion, GroupBy, VectorLeg, WordsLeg
from search_svc.model import Collection, View
from search_svc.store import Query, Store
from search_svc.words.queries import read_words
from search_svc.words.wanting import wanted


@dataclass(frozen=True)
class Kind:
    """A kind of search. `of` is the step of the items that count, where the true nearest of these are known."""

    name: str
    query: Callable[[Query, Vectors, int], Query]
    """Makes the query of one vector; the number is the search's."""
    of: int | None = None


def kinds() -> Iterator[Kind]:
    """Yield each kind, the plain one first."""
    yield Kind("plain", lambda query, vector, _: query, of=1)
    yield Kind("one hit a group", lambda query, vector, _: replace(query, group_by=GroupBy((("series",),))))
    yield Kind("the best 100 made diverse", lambda query, vector, _: replace(query, diversity=Diversity(0.5, 100)))
    yield Kind("two fused legs", _fused)
    yield Kind("words of 1 caption in 1,000", _words(RARE))
    yield Kind("words of 1 caption in 100", _words(SELDOM))
    yield Kind("a word of 1 caption in 2", _words(OFTEN))
    yield Kind("a filter that 1 in 100 passes", _filtered(Equals(("group",), ("g7",))), of=GROUPS)
    yield Kind("a filter that 1 in 1,000 passes", _filtered(Equals(("series",), ("s7",))), of=SERIES)


def _fused(query: Query, vector: Vectors, number: int) -> Query:
    """Ask for the vector, and for one that lies beside it, as an image and words for it do."""
    beside = vector.astype(np.float32) + np.random.default_rng(number).normal(scale=0.03, size=len(vector))
    assert query.only_leg is not None
    other = replace(query.only_leg, name="other", place=1, vector=beside.astype(np.float16))
    return replace(query, legs=(*query.legs, other), fusion=Fusion())


def _words(text: str) -> Callable[[Query, Vectors, int], Query]:
    """Ask for words of captions; `text` has a place for the search's number."""

    def query(query: Query, vector: Vectors, number: int) -> Query:
        terms = wanted(read_words(text.format(number % GROUPS)), "en")
        return replace(query, legs=(WordsLeg(terms, (0,), query.legs[0].space),))

    return query


def _filtered(tree: Filter) -> Callable[[Query, Vectors, int], Query]:
    return lambda query, vector, _: replace(query, filter=tree)


async def ask(
    store: Store, collection: Collection, kind: Kind, queries: Vectors, *, exact: bool = False
) -> tuple[Sequence[float], Sequence[Sequence[str]]]:
    """Search once for each vector. Return the milliseconds of each search, and the ids that it found."""
    space = collection.definition.spaces[0]
    base = Query((), None, HITS, 0, None, exact, None, View.BASIC, max_bytes=1 << 24)
    times, found = [], []
    for number, vector in enumerate(queries):
        query = kind.query(replace(base, legs=(VectorLeg(space, vector),)), vector, number)
        started = time.perf_counter()
        hits = await store.search(collection, query, timeout_s=PATIENCE_S)
        times.append(1000 * (time.perf_counter() - started))
        found.append([hit.item.id for hit in hits.hits])
    return times, found
